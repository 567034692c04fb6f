"""Starting from the shipped models, whose weights are read from their ONNX files."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tiny_training import make_adaptation
from wbctool_training.context import _read_cards
from wbctool_training.export import ClassifierGraph
from wbctool_training.init_from import average_weights, load_classifier_weights, load_generator
from wbctool_training.lightning_modules.classifier import ClassifierModule
from wbctool_training.models.backbones import Backbone
from wbctool_training.models.classifier import CellClassifier, NormalizedClassifier
from wbctool_training.recipe import NetworkSizes, Recipe
from wbctool_training.recipe_files import load_recipe

from wbctool.datasets.labelled import GroupSplit
from wbctool.errors import ModelMismatch, ModelNotFound
from wbctool.imaging.reader import read_field
from wbctool.imaging.resize import resize_square
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import ClassifierCard, GeneratorCard, default_models_dir, load_fp32_card
from wbctool.labels import UnknownKind

SHIPPED = default_models_dir()
SIZES = NetworkSizes()
FIELDS = sorted((Path(__file__).parents[1] / "data" / "slides" / "slide-01").iterdir())[:2]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load_recipe("fine-tune")


@pytest.fixture(scope="module")
def shipped_weights(recipe: Recipe) -> dict[str, torch.Tensor]:
    """The weights of the shipped classifier; do not change them."""
    return load_classifier_weights(SHIPPED, recipe.outputs_of(recipe.classifier), GroupSplit())


def test_load_classifier_weights_reproduces_exported_model(
    recipe: Recipe, shipped_weights: dict[str, torch.Tensor]
) -> None:
    white_balance = load_fp32_card(SHIPPED, ClassifierCard).training.white_balance
    network = NormalizedClassifier(CellClassifier(len(recipe.classes)), white_balance)
    network.load_state_dict(shipped_weights, strict=True)
    rgb = np.stack([resize_square(read_field(path).rgb[:, :480], 128) for path in FIELDS])
    with torch.inference_mode():
        ours = ClassifierGraph(network.eval(), len(recipe.classes))(torch.from_numpy(rgb))[0].numpy()
    assert np.abs(ours - load_model(SHIPPED, ClassifierCard).run(rgb)[0]).max() < 0.02


def test_read_cards_ignores_evaluation_files(tmp_path: Path) -> None:
    """Otherwise a training that starts from them could not be resumed."""
    (tmp_path / "classifier.json").write_text('{"kind": "classifier"}')
    before = _read_cards(tmp_path)
    (tmp_path / "evaluation.json").write_text('{"data": "d"}')
    assert _read_cards(tmp_path) == before == '{"kind": "classifier"}'


def test_classifier_module_init_sets_weights_and_freezes_first_blocks(
    recipe: Recipe, shipped_weights: dict[str, torch.Tensor]
) -> None:
    task = ClassifierModule(recipe.classifier, len(recipe.classes), shipped_weights)
    for network in (task.network, task.average.module):
        for name, value in network.state_dict().items():
            assert torch.equal(value, shipped_weights[name]), name
    convolutions = [p.requires_grad for p in task.network.network.features.parameters()]
    assert convolutions == [False] * 8 + [True] * 24  # two blocks of two convolutions, each with weight and bias


def test_load_classifier_weights_of_an_adapted_classifier_are_refused(recipe: Recipe, tmp_path: Path) -> None:
    """A model trained further from it would be evaluated on the cells that the laboratory taught it with."""
    model = onnx.load(SHIPPED / "classifier.onnx")
    folder = write_with_card(model, tmp_path, adaptation=make_adaptation())
    with pytest.raises(ModelMismatch, match="was adapted to our laboratory and cannot be trained further"):
        load_classifier_weights(folder, recipe.outputs_of(recipe.classifier), GroupSplit())


@pytest.mark.parametrize("group_split", [GroupSplit(fold=1), GroupSplit(held_out_datasets=("pbc",))])
def test_load_classifier_weights_that_saw_test_groups_is_refused(recipe: Recipe, group_split: GroupSplit) -> None:
    with pytest.raises(ModelMismatch, match="was trained on groups of this training's test split"):
        load_classifier_weights(SHIPPED, recipe.outputs_of(recipe.classifier), group_split)


def test_average_weights_white_balance_other_than_the_recipe_is_refused(recipe: Recipe) -> None:
    """The network would see other colors than it learned, and nothing in its weights tells."""
    outputs = recipe.outputs_of(recipe.classifier)
    with pytest.raises(ModelMismatch, match="was trained with white balance, but wanted is one that was trained witho"):
        average_weights([SHIPPED], outputs, GroupSplit(), white_balance=False)


def test_load_classifier_weights_with_folded_batchnorm_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    for ending in ("json", "onnx"):
        shutil.copy(SHIPPED / f"classifier.{ending}", tmp_path)
    card = json.loads((tmp_path / "classifier.json").read_text())
    card["training"]["backbone"] = "resnet50"
    (tmp_path / "classifier.json").write_text(json.dumps(card))
    with pytest.raises(ModelMismatch, match="a resnet50 cannot be trained further"):
        load_classifier_weights(tmp_path, recipe.outputs_of(recipe.classifier), GroupSplit(), Backbone.RESNET50)


@pytest.mark.parametrize("training", [{}, {"datasets": {"pbc": 9}}, {"groups": 9}], ids=str)
@pytest.mark.parametrize("kind", ["classifier", "generator"])
def test_load_weights_card_without_training_data_is_refused(
    recipe: Recipe, tmp_path: Path, lr: np.ndarray, kind: str, training: dict[str, object]
) -> None:
    """The new model's card could not be written, hours later."""
    for ending in ("json", "onnx"):
        shutil.copy(SHIPPED / f"{kind}.{ending}", tmp_path)
    card = json.loads((tmp_path / f"{kind}.json").read_text())
    kept = {key: value for key, value in card["training"].items() if key not in {"datasets", "groups"}}
    (tmp_path / f"{kind}.json").write_text(json.dumps(card | {"training": kept | training}))
    pixels = torch.from_numpy(lr).permute(0, 3, 1, 2).float() / 255
    load = {
        "classifier": lambda: load_classifier_weights(tmp_path, recipe.outputs_of(recipe.classifier), GroupSplit()),
        "generator": lambda: load_generator(tmp_path, GroupSplit(), pixels, SIZES),
    }[kind]
    with pytest.raises(ModelMismatch, match=rf"{kind}\.onnx: its card does not say what it was trained on"):
        load()


def test_load_classifier_weights_other_classes_are_refused() -> None:
    recipe = load_recipe("paper")
    with pytest.raises(ModelMismatch, match=r"but wanted are neutrophil, lymphocyte, monocyte, eosinophil$"):
        load_classifier_weights(SHIPPED, recipe.outputs_of(recipe.classifier), GroupSplit())


def test_load_classifier_weights_altered_or_missing_model_is_refused(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        load_classifier_weights(tmp_path, recipe.outputs_of(recipe.classifier), GroupSplit())
    shutil.copy(SHIPPED / "classifier.json", tmp_path)
    (tmp_path / "classifier.onnx").write_bytes(b"other bytes")
    with pytest.raises(ModelMismatch):
        load_classifier_weights(tmp_path, recipe.outputs_of(recipe.classifier), GroupSplit())


@pytest.fixture(scope="module")
def lr() -> np.ndarray:
    """(4, 16, 16, 3) uint8: windows of two fields."""
    fields = [read_field(path).rgb for path in FIELDS]
    return np.stack([f[200:216, x : x + 16] for f in fields for x in (150, 300)])


@pytest.mark.parametrize("training", [False, True])
def test_load_generator_reproduces_exported_model_also_with_batch_statistics(lr: np.ndarray, training: bool) -> None:
    """Export folds BatchNorm away; the restored ones must change nothing, or the first step would undo the training."""
    batch = torch.from_numpy(lr).permute(0, 3, 1, 2).float() / 255
    network = load_generator(SHIPPED, GroupSplit(), batch, SIZES).train(training)
    with torch.inference_mode():
        ours = network(batch).clamp(0, 1).permute(0, 2, 3, 1).numpy() * 255
    exported = load_model(SHIPPED, GeneratorCard).run(lr)[0]
    assert np.abs(ours - exported).max() < 0.6  # rounding to whole gray levels is 0.5


def test_load_generator_batchnorms_have_statistics_of_given_cells(lr: np.ndarray) -> None:
    batch = torch.from_numpy(lr).permute(0, 3, 1, 2).float() / 255
    network = load_generator(SHIPPED, GroupSplit(), batch, SIZES).eval()
    seen = {}
    norm = network.blocks[3].norm2
    norm.register_forward_hook(lambda _, inputs, output: seen.update(before=inputs[0], after=output))
    network(batch)
    assert torch.allclose(seen["after"], seen["before"], atol=1e-4)
    assert torch.allclose(norm.running_mean, seen["before"].mean(dim=(0, 2, 3)), atol=1e-4)
    assert norm.running_var.min() > 0
    assert not torch.allclose(norm.weight, torch.ones_like(norm.weight))


def test_load_generator_of_another_size_is_refused(lr: np.ndarray) -> None:
    pixels = torch.from_numpy(lr).permute(0, 3, 1, 2).float() / 255
    with pytest.raises(ModelMismatch, match=r"generator\.onnx has 2040067 parameters, but the recipe's generator"):
        load_generator(SHIPPED, GroupSplit(), pixels, NetworkSizes(generator_blocks=8))


def test_load_generator_that_saw_test_groups_is_refused(lr: np.ndarray) -> None:
    with pytest.raises(ModelMismatch, match="was trained on groups of this training's test split"):
        load_generator(SHIPPED, GroupSplit(fold=1), torch.from_numpy(lr).permute(0, 3, 1, 2).float() / 255, SIZES)


def test_load_classifier_weights_without_biases_of_zero_gives_zeros(recipe: Recipe, tmp_path: Path) -> None:
    """Export leaves them out."""
    model = onnx.load(SHIPPED / "classifier.onnx")
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "network.network.output.bias"]
    model.graph.initializer.remove(bias)
    weights = load_classifier_weights(
        write_with_card(model, tmp_path), recipe.outputs_of(recipe.classifier), GroupSplit()
    )
    assert torch.equal(weights["network.output.bias"], torch.zeros(len(recipe.classes)))


@pytest.mark.parametrize("outputs", [(), (UnknownKind.BLAST,)])
def test_load_classifier_weights_other_unknown_kinds_are_refused(
    recipe: Recipe, tmp_path: Path, outputs: tuple[UnknownKind, ...]
) -> None:
    kinds = (UnknownKind.SMUDGE,)
    folder = write_with_card(onnx.load(SHIPPED / "classifier.onnx"), tmp_path, unknown_kinds=kinds)
    with pytest.raises(ModelMismatch, match="platelet, smudge, but wanted are"):
        load_classifier_weights(folder, (*recipe.classes, *outputs), GroupSplit())


def test_average_weights_two_classifiers_gives_mean(
    recipe: Recipe, shipped_weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    model = onnx.load(SHIPPED / "classifier.onnx")
    (bias,) = [tensor for tensor in model.graph.initializer if tensor.name == "network.network.output.bias"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.5), bias.name))
    other = write_with_card(model, tmp_path)
    mean = average_weights([SHIPPED, other], recipe.outputs_of(recipe.classifier), GroupSplit())
    for name, value in shipped_weights.items():
        moved = 0.25 if name == "network.output.bias" else 0.0
        assert torch.allclose(mean[name], value + moved, atol=1e-6), name


def test_average_weights_other_backbone_is_refused(recipe: Recipe) -> None:
    with pytest.raises(ModelMismatch, match=r"classifier\.onnx is a vgg19, not a resnet50"):
        average_weights([SHIPPED], recipe.outputs_of(recipe.classifier), GroupSplit(), Backbone.RESNET50)


def test_load_classifier_weights_holding_out_unseen_dataset_is_accepted(recipe: Recipe) -> None:
    assert load_classifier_weights(
        SHIPPED, recipe.outputs_of(recipe.classifier), GroupSplit(held_out_datasets=("another-laboratory",))
    )


def write_with_card(model: onnx.ModelProto, folder: Path, **changes: object) -> Path:
    """Write a classifier and a card with its hash and changes."""
    content = model.SerializeToString()
    changes["sha256"] = hashlib.sha256(content).hexdigest()
    card = load_fp32_card(SHIPPED, ClassifierCard).model_copy(update=changes)
    (folder / card.file).write_bytes(content)
    (folder / "classifier.json").write_text(card.model_dump_json())
    return folder
