"""White balance: the classifier gives the same result for a cell under another lamp."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from wbctool_training.init_from import load_classifier_weights
from wbctool_training.models.classifier import CellClassifier, NormalizedClassifier
from wbctool_training.models.white_balance import WhiteBalance
from wbctool_training.recipe_files import load_recipe

from wbctool.datasets.labelled import GroupSplit
from wbctool.imaging.crop import crop_cells
from wbctool.imaging.reader import read_field
from wbctool.imaging.resize import resize_square
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import DetectorCard, default_models_dir
from wbctool.stages.detect import detect_cells

FIELD = Path(__file__).parents[1] / "data" / "slides" / "slide-01" / "BloodImage_00009.jpg"
LAMP = torch.tensor([1.1, 0.9, 0.75]).view(1, 3, 1, 1)


@pytest.fixture(scope="module")
def cell() -> Tensor:
    """A cell of the demo, (1, 3, 128, 128) float in [0, 255]."""
    field = read_field(FIELD)
    found = [d.box for d in detect_cells(field, load_model(default_models_dir(), DetectorCard))]
    (crop,) = crop_cells(field, found[:1], 1.25)
    return torch.from_numpy(resize_square(crop.rgb, 128)).permute(2, 0, 1)[None].float()


def test_white_balance_background_becomes_240_and_cell_stays_darker(cell: Tensor) -> None:
    balanced = WhiteBalance()(cell)
    brightest = balanced.flatten(2).quantile(0.95, dim=2)
    assert brightest == pytest.approx(torch.full((1, 3), 240.0), abs=4)
    assert balanced[:, 1].quantile(0.1) < 160


def test_white_balance_removes_color_of_the_lamp(cell: Tensor) -> None:
    assert (cell * LAMP - cell).abs().max() > 40
    assert (WhiteBalance()(cell * LAMP) - WhiteBalance()(cell)).abs().max() < 0.01


def test_classifier_ignores_lamp_only_with_white_balance(cell: Tensor) -> None:
    recipe = load_recipe("default")
    weights = load_classifier_weights(default_models_dir(), recipe.outputs_of(recipe.classifier), GroupSplit())
    differences = []
    for balance in (True, False):
        network = NormalizedClassifier(CellClassifier(len(load_recipe("default").classes)), balance).eval()
        network.load_state_dict(weights)
        with torch.inference_mode():
            differences.append(float((network(cell * LAMP) - network(cell)).abs().max()))
    assert differences[0] < 1e-3
    assert differences[1] > 0.3


def test_white_balance_ignores_few_bright_pixels(cell: Tensor) -> None:
    glaring = cell.clone()
    glaring[:, :, 5:15, 5:15] = 255
    assert (WhiteBalance()(glaring)[..., 20:, 20:] - WhiteBalance()(cell)[..., 20:, 20:]).abs().max() < 6


def test_white_balance_dark_crop_is_not_amplified() -> None:
    black = torch.full((2, 3, 128, 128), 3.0)
    assert WhiteBalance()(black).max() < 12
