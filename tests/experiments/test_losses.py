"""`python -m experiments.losses`: one generator per loss, from one start."""

from pathlib import Path

import numpy as np
import pytest
from tiny_training import FIELDS, copy_shipped_models, write_narrow_generator, write_short_recipe

from experiments import losses
from wbctool.imaging.reader import read_field
from wbctool.inference.loading import load_generators


def test_losses_two_losses_give_different_generators_near_their_start(
    data: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("generator-l1", "generator-l1-phi54-gan")  # the first and the last
    monkeypatch.setattr(losses, "LOSSES", {name: losses.LOSSES[name] for name in names})
    copy_shipped_models(tmp_path, "detector", "classifier")
    start = write_narrow_generator(tmp_path / "start")
    srgan = {
        "pretrain_samples": 0,
        "gan_samples": 4,
        "epoch_samples": 4,
        "gan_lr": 1e-4,
        "ema_decay": 0.0,
        "init_as_interpolation": False,
    }
    recipe = write_short_recipe(tmp_path / "further.toml", srgan=srgan)
    options = ["--recipe", str(recipe), "--imagenet-weights", str(weights), "--init-from", str(start)]
    losses.main(["--data", str(data), "--out", str(tmp_path), "--workers", "0", *options])

    generators = {model.card.name: model for model in load_generators(tmp_path)}
    assert set(generators) == {"generator", *names}  # the start is copied
    lr = np.stack([read_field(path).rgb[:32, :32] for path in FIELDS[:4]])
    images = {name: model.run(lr)[0].astype(int) for name, model in generators.items()}
    for name in names:
        others = [other for other in images if other != name]
        assert all((images[name] != images[other]).any() for other in others), name
    differences = {name: np.abs(image - images["generator"]).mean() for name, image in images.items()}
    assert max(differences.values()) < 40  # four pairs from the interpolating one, not from random weights


def test_losses_data_option_is_required(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as raised:
        losses.main(["--out", str(tmp_path)])
    assert raised.value.code == 2
