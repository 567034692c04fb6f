import io

import numpy as np
import pytest
from PIL import Image

from wbctool.adaptation.candidates import read_candidates
from wbctool.adaptation.cell_images import CELL_MARGIN, make_cell_images
from wbctool.paths import OutputPaths
from wbctool.pipeline.run_slides import FieldImages
from wbctool.types.cells import Box


@pytest.fixture
def output(run):
    run()
    return OutputPaths(run.out)


def decode(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def test_pictures_are_cut_from_the_field_around_the_cell(run, output):
    images = FieldImages.find(output, None)
    candidates = read_candidates(output, images).cells
    for candidate in candidates:
        field = np.asarray(Image.open(run.root / candidate.slide / candidate.cell.field)).astype(int)
        box, pictures = candidate.cell.detection.box, make_cell_images(output, [candidate], images)
        shown = pictures[candidate.slide, candidate.row]
        assert shown.from_field
        assert decode(shown.cell).shape == (box.width * CELL_MARGIN, box.width * CELL_MARGIN, 3)
        region, surroundings = shown.region, decode(shown.surroundings)
        assert surroundings.shape[:2] == (region.height, region.width)
        expected = field[region.y : region.y + region.height, region.x : region.x + region.width]
        assert expected.shape == surroundings.shape
        assert np.abs(surroundings - expected).mean() < 8  # lossy
        middle = surroundings[box.y + 8 - region.y, box.x + 8 - region.x]
        assert np.abs(middle - field[box.y + 8, box.x + 8]).max() < 40


def test_without_the_image_the_thumbnails_of_the_report_are_shown(run, output):
    images = FieldImages.find(output, None)
    candidates = read_candidates(output, images).cells
    (run.root / "s2" / "f1.png").write_bytes(b"another image")
    pictures = make_cell_images(output, candidates, images)
    assert len(pictures) == len(candidates)
    small = {key: shown for key, shown in pictures.items() if not shown.from_field}
    assert set(small) == {("s2", 1), ("s2", 2)}
    for shown in small.values():
        assert decode(shown.cell).shape == (16, 16, 3)
        assert shown.region == Box(0, 0, 320, 32)
        assert decode(shown.surroundings).shape == (32, 320, 3)
