"""Training data: balanced sampling, reproducible augmentation, and crops as in `wbctool run`."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from wbctool_training.data.augment import (
    affine_matrix,
    color_jitter,
    compress_jpeg,
    degrade_optics,
    downscale_upscale,
    random_dihedral,
    random_stain,
)
from wbctool_training.data.cell_index import CellRef, cached_cells, crop_cell, detect_image_cells
from wbctool_training.data.classification_dataset import EvalDataset, TrainDataset, paper_augmentation
from wbctool_training.data.detection_dataset import (
    DetectionDataset,
    _AnnotatedImage,
    _apply_random_affine,
    make_targets,
)
from wbctool_training.data.sampler import BalancedSampler, EpochSampler
from wbctool_training.data.sr_pairs import SuperResolutionPairs, degrade_to_lr
from wbctool_training.models.detector import STRIDE

from wbctool.datasets.labelled import LabelledBox, LabelledField, LabelledImage, UnknownImage
from wbctool.errors import LabelledDataInvalid
from wbctool.imaging.crop import crop_cells
from wbctool.imaging.reader import read_field
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import DetectorCard, default_models_dir
from wbctool.inference.session import OnnxModel
from wbctool.labels import CellClass, Subtype, UnknownKind
from wbctool.types.cells import Box, ObjectClass

DEMO = sorted((Path(__file__).parents[1] / "data" / "slides" / "slide-01").iterdir())
CLASSES = (CellClass.NEUTROPHIL, CellClass.EOSINOPHIL)


def _sample(path: Path, label: CellClass, group: str, dataset: str = "o") -> CellRef:
    return CellRef(path, Box(200, 150, 160, 150), label, group, dataset)


@pytest.fixture
def cells() -> list[CellRef]:
    return [_sample(path, CLASSES[k % 2], str(k)) for k, path in enumerate(DEMO[:4])]


@pytest.fixture
def detector() -> OnnxModel[DetectorCard]:
    return load_model(default_models_dir(), DetectorCard)


@pytest.fixture
def rgb() -> np.ndarray:
    return read_field(DEMO[0]).rgb[100:228, 200:328]


def test_balanced_sampler_samples_classes_by_fourth_root_of_groups() -> None:
    many = [_sample(DEMO[0], CellClass.NEUTROPHIL, f"n{k}", "large") for k in range(256)]
    few = [_sample(DEMO[0], CellClass.BASOPHIL, "b0", "large")]
    other = [_sample(DEMO[0], c, f"x{k}", "small") for k in range(16) for c in CLASSES[:1]]
    draw, rng = BalancedSampler([*many, *few, *other]), np.random.default_rng(0)
    drawn = Counter((c.dataset, c.label) for c in (draw(rng) for _ in range(7000)))
    assert drawn["large", CellClass.NEUTROPHIL] == pytest.approx(4000, rel=0.05)
    assert drawn["large", CellClass.BASOPHIL] == pytest.approx(1000, rel=0.1)
    assert drawn["small", CLASSES[0]] == pytest.approx(2000, rel=0.08)


def test_balanced_sampler_samples_datasets_of_a_group_equally() -> None:
    """A BCCD cell occurs once in a field and ten times as a copy."""
    cells = [_sample(DEMO[0], CellClass.MONOCYTE, "7", "copies")] * 10 + [
        _sample(DEMO[1], CellClass.MONOCYTE, "7", "fields")
    ]
    draw, rng = BalancedSampler(cells), np.random.default_rng(0)
    assert Counter(draw(rng).dataset for _ in range(2000))["fields"] == pytest.approx(1000, rel=0.1)


def test_balanced_sampler_samples_groups_equally_despite_copies() -> None:
    cells = [_sample(DEMO[0], CellClass.MONOCYTE, "copied")] * 99 + [_sample(DEMO[1], CellClass.MONOCYTE, "single")]
    draw, rng = BalancedSampler(cells), np.random.default_rng(0)
    assert Counter(draw(rng).group for _ in range(2000))["single"] == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize("kind", ["paper", "strong"])
def test_train_dataset_item_depends_on_seed_and_index(cells: list[CellRef], kind: str) -> None:
    crops, again = (TrainDataset(cells, CLASSES, 1.25, kind, seed=3) for _ in range(2))  # type: ignore[arg-type]
    (one, label), (same, same_label), (other, _) = crops[5], again[5], crops[6]
    assert one.shape == (3, 128, 128)
    assert one.dtype == torch.uint8
    assert torch.equal(one, same)
    assert label == same_label
    assert not torch.equal(one, other)


def test_eval_dataset_crops_as_a_run(cells: list[CellRef]) -> None:
    image, label, weight = EvalDataset(cells, CLASSES, 1.25)[1]
    (crop,) = crop_cells(read_field(cells[1].path), [cells[1].box], 1.25)
    assert label == 1
    assert weight == pytest.approx(1 / 4)
    assert crop.side_px == 200
    np.testing.assert_array_equal(crop_cell(cells[1], 1.25), crop.rgb)
    assert float(image.float().mean()) == pytest.approx(float(crop.rgb.mean()), abs=1.0)


def test_color_jitter_keeps_gray_background_gray_on_average() -> None:
    gray = np.full((8, 8, 3), 200, np.uint8)
    rng = np.random.default_rng(0)
    mean = np.mean([color_jitter(gray, rng).reshape(-1, 3).mean(axis=0) for _ in range(400)], axis=0)
    assert np.ptp(mean) < 6


def test_augmentation_strength_0_changes_nothing(rgb: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    assert np.abs(color_jitter(rgb, rng, 0.0).astype(int) - rgb).max() <= 4  # 8-bit hue rounds
    np.testing.assert_array_equal(degrade_optics(rgb, rng, 0.0), rgb)


def test_random_stain_keeps_order_of_grays_and_gray_background() -> None:
    grays = np.array([[[20] * 3, [60] * 3, [120] * 3, [235] * 3]], np.uint8)
    rng = np.random.default_rng(0)
    dyed = np.array([random_stain(grays, rng)[0] for _ in range(400)])
    assert (np.diff(dyed.astype(int), axis=1) >= 0).all()
    assert np.ptp(dyed[:, 3].mean(axis=0)) < 6


def test_random_stain_reaches_purple_from_pink() -> None:
    """Red cells of one laboratory have the color of another's nuclei, so only lightness should distinguish them."""
    pink = np.full((1, 1, 3), (225, 170, 165), np.uint8)
    rng = np.random.default_rng(0)
    bluer = [int(rgb[2]) - int(rgb[0]) for rgb in (random_stain(pink, rng)[0, 0] for _ in range(400))]
    assert min(bluer) < -60
    assert max(bluer) > 0


def test_augmentation_keeps_shape_and_dtype(rgb: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    for varied in (
        color_jitter(rgb, rng),
        random_stain(rgb, rng),
        paper_augmentation(rgb, rng),
        compress_jpeg(rgb, 50),
        downscale_upscale(rgb, 0.3, rng),
    ):
        assert varied.shape == rgb.shape
        assert varied.dtype == np.uint8
        assert not np.array_equal(varied, rgb)


def test_random_dihedral_keeps_all_pixels(rgb: np.ndarray) -> None:
    turned = random_dihedral(rgb, np.random.default_rng(5))
    assert sorted(map(tuple, turned.reshape(-1, 3))) == sorted(map(tuple, rgb.reshape(-1, 3)))


def test_degrade_to_lr_ideal_is_local_mean() -> None:
    hr = np.repeat(np.linspace(0, 255, 128)[None, :, None], 128, axis=0).repeat(3, axis=2).astype(np.uint8)
    lr = degrade_to_lr(hr)
    assert lr.shape == (32, 32, 3)
    expected = hr.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(lr[4:-4, 4:-4] - expected[4:-4, 4:-4]).max() <= 1.0


@pytest.mark.parametrize("varied", [False, True])
def test_super_resolution_pairs_show_the_same_region(cells: list[CellRef], varied: bool) -> None:
    lr, hr = SuperResolutionPairs(cells, 1.25, 20, seed=1, augment=varied)[7]
    assert lr.shape == (3, 20, 20)
    assert hr.shape == (3, 80, 80)
    means = torch.nn.functional.avg_pool2d(hr.float(), 4)
    correlation = np.corrcoef(lr.float().flatten(), means.flatten())[0, 1]
    assert correlation > 0.9


def test_epoch_sampler_each_epoch_has_new_indices() -> None:
    slices = EpochSampler(3)
    assert list(slices) == [0, 1, 2]
    slices.set_epoch(4)
    assert list(slices) == [12, 13, 14]


def test_cached_cells_existing_file_is_read(cells: list[CellRef], tmp_path: Path) -> None:
    path = tmp_path / "training" / "cells.csv"
    assert cached_cells(path, cells) == tuple(cells)
    assert cached_cells(path, iter(())) == tuple(cells)
    assert [p.name for p in path.parent.iterdir()] == ["cells.csv"]


def test_cached_cells_keeps_subtypes(cells: list[CellRef], tmp_path: Path) -> None:
    told = [replace(cells[0], subtype=Subtype.BAND), cells[1]]
    assert cached_cells(tmp_path / "cells.csv", told) == tuple(told)


def test_detect_image_cells_have_the_image_subtype_of_their_class(detector: OnnxModel[DetectorCard]) -> None:
    """Also if the cell is super-resolved later, to another file."""
    band = LabelledImage(DEMO[0], CellClass.NEUTROPHIL, "1", "pbc", Subtype.BAND)
    monoblast = UnknownImage(DEMO[1], UnknownKind.BLAST, "2", "lmu", Subtype.MONOBLAST)
    assert [cell.subtype for cell in detect_image_cells([band, monoblast], detector)] == [Subtype.BAND, None]


def test_detect_image_cells_broken_image_is_named(detector: OnnxModel[DetectorCard], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(DEMO[0].read_bytes()[:2000])
    with pytest.raises(LabelledDataInvalid, match=r"broken\.jpg: "):
        list(detect_image_cells([LabelledImage(broken, CellClass.NEUTROPHIL, "1", "ours")], detector))


def test_cached_cells_file_name_that_is_not_utf8_is_read(cells: list[CellRef], tmp_path: Path) -> None:
    named = [replace(cells[0], path=tmp_path / os.fsdecode(b"\xe9osinophile.png"))]
    assert cached_cells(tmp_path / "cells.csv", named) == tuple(named)
    assert cached_cells(tmp_path / "cells.csv", iter(())) == tuple(named)


def test_make_targets_marks_center_and_sides() -> None:
    maps = make_targets(np.array([[40, 48, 120, 112, 0]], np.float32), canvas_px=160)
    row, column = 10, 10  # center (80, 80), eight pixels a location
    assert maps.heat[0, row, column] == 1.0
    assert maps.heat[1:].max() == 0.0
    assert maps.sides[:, row, column].tolist() == [84 - 40, 84 - 48, 120 - 84, 112 - 84]
    assert maps.positive[row, column]
    assert not maps.positive[0, 0]
    assert (maps.weight == 1).all()


def test_make_targets_barely_visible_object_has_no_weight() -> None:
    maps = make_targets(np.array([[-70, 0, 10, 80, 0]], np.float32), canvas_px=160)
    assert maps.heat.max() == 0.0
    assert maps.weight[0].min() == 0.0
    assert not maps.positive.any()


def test_make_targets_cut_object_ends_at_the_border() -> None:
    maps = make_targets(np.array([[-40, 40, 60, 120, 2]], np.float32), canvas_px=160)
    row, column = (maps.heat[2] == 1).nonzero()[0].tolist()
    middle_x = (column + 0.5) * STRIDE
    assert middle_x - maps.sides[0, row, column] == 0.0
    assert middle_x + maps.sides[2, row, column] == 60.0


def test_affine_matrix_mirror_and_quarter_turn_keep_all_pixels(rgb: np.ndarray) -> None:
    mirror, turn = np.diag([-1.0, 1.0]), np.array([[0.0, -1.0], [1.0, 0.0]])
    for linear, offset, expected in ((mirror, (128, 0), rgb[:, ::-1]), (turn, (128, 0), np.rot90(rgb, -1))):
        np.testing.assert_array_equal(
            cv2.warpAffine(rgb, affine_matrix(linear, np.array(offset)), (128, 128)), expected
        )


@pytest.mark.parametrize("scale", [0.4, 1.0])
def test_apply_random_affine_centers_cell_in_its_box(scale: float) -> None:
    """If it were half a pixel off, the detector would learn shifted boxes."""
    rgb = np.zeros((120, 160, 3), np.uint8)
    rgb[45:65, 60:90] = 255
    field, rng = _AnnotatedImage(rgb, np.array([[60, 45, 90, 65, 0]], np.float32)), np.random.default_rng(0)
    off = []
    for _ in range(200):
        placed = _apply_random_affine(field, scale, 320, rng)
        light = placed.rgb[..., 0].astype(float)
        x, y = (light.sum(axis) @ (np.arange(320) + 0.5) / light.sum() for axis in (0, 1))
        off.append((x, y) - (placed.boxes[0, :2] + placed.boxes[0, 2:4]) / 2)
    assert np.abs(np.mean(off, axis=0)).max() < 0.1


def test_detection_dataset_boxes_stay_on_their_cells(tmp_path: Path) -> None:
    """The field is a green square on gray, so a canvas is colored only inside a box."""
    rgb = np.full((240, 320, 3), 150, np.uint8)
    rgb[80:140, 100:180] = (20, 220, 20)
    path = tmp_path / "f.png"
    cv2.imwrite(str(path), rgb[..., ::-1])
    field = LabelledField(path, "s", "o", (LabelledBox(ObjectClass.NUCLEATED, Box(100, 80, 80, 60)),), ())
    canvases = DetectionDataset([field], 160, seed=0, length=4)
    checked = 0
    for index in range(20):
        image, heat, _, sides, positive = canvases[index]
        assert image.dtype == torch.uint8
        assert (sides[:, positive] > 0).all()
        for row, column in (heat[0] == 1).nonzero().tolist():
            x, y = int((column + 0.5) * STRIDE), int((row + 0.5) * STRIDE)
            left, top, right, bottom = sides[:, row, column].tolist()
            inside = image[:, int(y - top / 2) : int(y + bottom / 2) + 1, int(x - left / 2) : int(x + right / 2) + 1]
            red, green, blue = inside.float().mean(dim=(1, 2)).tolist()
            assert max(red, green, blue) - min(red, green, blue) > 25  # only the square is colored
            checked += 1
    assert checked > 20
