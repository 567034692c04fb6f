"""`wbctool train` and `wbctool calibrate`: what they pass on, and what they say without torch."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from wbctool.datasets.labelled import GroupSplit
from wbctool.enums import BackboneChoice, TrainStage
from wbctool.inference.model_card import default_models_dir


@pytest.mark.train
def test_train_offers_every_backbone_of_the_first_reader():
    from wbctool_training.models.backbones import Backbone

    offered = [backbone.value for backbone in Backbone if backbone is not Backbone.EFFICIENTNET_LITE0]
    assert [choice.value for choice in BackboneChoice] == offered


def test_train_without_torch_names_the_extra(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.split(".")[0] == "wbctool_training"]:
        monkeypatch.delitem(sys.modules, name)
    done = cli("train")
    assert done.exit_code == 1
    assert done.stderr == "wbctool: `wbctool train` needs torch: pip install 'wbctool[train]'\n"


@pytest.mark.train
@pytest.mark.parametrize("module", ["wbctool_training.train", "wbctool.datasets.labelled"])
def test_train_with_missing_module_of_ours_names_no_extra(cli, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    done = cli("train")
    assert isinstance(done.exception, ModuleNotFoundError)
    assert "pip install" not in done.output


@pytest.mark.train
def test_train_passes_its_options_on(cli, monkeypatch):
    import wbctool_training.train

    trainings = []
    monkeypatch.setattr(wbctool_training.train, "train", lambda *arguments: trainings.append(arguments))
    done = cli(
        "train", "--data", "a", "--data", "b", "--out", "o", "--stage", "classifier", "--init-from", "m", "--fold", 2
    )
    assert done.exit_code == 0, done.output
    ((options, recipe, stage),) = trainings
    assert (recipe, stage) == ("default", TrainStage.CLASSIFIER)
    assert (options.data, options.out, options.init_from) == ([Path("a"), Path("b")], Path("o"), [Path("m")])
    assert (options.group_split, options.backbone) == (GroupSplit(2, ()), "vgg19")


@pytest.fixture
def calibrations(monkeypatch):
    """The arguments of each call of the calibration, which is not run."""
    calls = []
    training = SimpleNamespace(calibrate=lambda **options: calls.append(options))
    monkeypatch.setattr("wbctool.cli.calibrate.import_training", lambda *_: training)
    return calls


@pytest.mark.parametrize("option", ["--models", "--init-from"])
def test_calibrate_fits_given_models_without_training(cli, calibrations, option):
    done = cli("calibrate", "--data", "d", "--out", "o", option, "m", option, "n", "--hold-out-dataset", "pbc")
    assert done.exit_code == 0, done.output
    assert calibrations == [
        {
            "data": [Path("d")],
            "out": Path("o"),
            "init_from": [Path("m"), Path("n")],
            "group_split": GroupSplit(0, ("pbc",)),
        }
    ]


def test_calibrate_without_models_takes_shipped_ones(cli, calibrations):
    cli("calibrate", "--out", "o")
    assert calibrations[0]["init_from"] == [default_models_dir()]
