from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from wbctool.imaging.reader import read_field
from wbctool.imaging.thumbnails import make_field_thumbnail
from wbctool.stages.field_overlap import FieldView, find_overlaps
from wbctool.types.cells import Box, Field

WIDTH, HEIGHT = 800, 600
CELLS = [Box(x, y, 90, 90) for y in range(40, 1400, 130) for x in range(40, 1800, 130)]  # all over a smear


@pytest.fixture(scope="module")
def fields(demo_slides):
    """Return different real fields of 640×480."""
    return [read_field(path).rgb for path in sorted(demo_slides.glob("slide-0[12]/*.jpg"))]


@pytest.fixture(scope="module")
def smear(fields):
    """Return a smear of 1920×1440 in which no field is repeated."""
    return np.vstack([np.hstack(fields[i : i + 3]) for i in (0, 3, 6)])


def view(rgb, cells, name="f.jpg"):
    return FieldView(make_field_thumbnail(Field(name, np.ascontiguousarray(rgb))), tuple(cells))


def cut(smear, x, y, gain=1.0, vignetting=0.0):
    """Photograph a place of a smear, by fractions of a pixel, under another lamp."""
    matrix = np.array([[1.0, 0, x], [0, 1, y]])
    moved = cv2.warpAffine(smear, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    down, across = np.mgrid[-1 : 1 : HEIGHT * 1j, -1 : 1 : WIDTH * 1j]
    shaded = moved * gain * (1 - vignetting * (down**2 + across**2))[..., None]
    rgb = cv2.imdecode(cv2.imencode(".jpg", np.clip(shaded, 0, 255), [cv2.IMWRITE_JPEG_QUALITY, 85])[1], 1)
    inside = [Box(c.x - round(x), c.y - round(y), c.width, c.height) for c in CELLS]
    shown = [b for b in inside if b.x >= 0 and b.x + b.width <= WIDTH and b.y >= 0 and b.y + b.height <= HEIGHT]
    return view(rgb, shown[::3])


@pytest.mark.parametrize("percent", [5, 10, 20, 30, 40])
@pytest.mark.parametrize("direction", ["across", "down"])
def test_neighbors_of_a_stage_are_found(smear, percent, direction):
    dx, dy = (WIDTH * (1 - percent / 100), 7.3) if direction == "across" else (-5.6, HEIGHT * (1 - percent / 100))
    views = [cut(smear, 200.4, 20.7, 1.05, 0.12), cut(smear, 200.4 + dx, 20.7 + dy, 0.95, 0.12)]
    (found,) = find_overlaps(views)
    assert (found.first, found.second) == (0, 1)
    assert abs(found.dx_px - dx) < 3
    assert abs(found.dy_px - dy) < 3


def test_any_other_shift_with_a_shared_cell_is_found(smear):
    cell = 850, 330
    views = [
        FieldView(cut(smear, x, y, gain).thumbnail, (Box(cell[0] - x, cell[1] - y, 90, 90),))
        for x, y, gain in [(500, 200, 1.0), (313, 21, 0.9)]
    ]
    (found,) = find_overlaps(views)
    assert abs(found.dx_px + 187) < 3
    assert abs(found.dy_px + 179) < 3


def test_slivers_of_cells_at_the_edges_are_no_error(smear):
    slivers = [Box(WIDTH - 3, 200, 3, 80), Box(300, HEIGHT - 3, 80, 3), Box(WIDTH - 1, HEIGHT - 1, 1, 1)]
    views = [FieldView(cut(smear, x, 60.2).thumbnail, tuple(slivers)) for x in (100.4, 900.3)]
    assert find_overlaps(views) == []


def test_different_real_fields_do_not_overlap(fields):
    views = [view(rgb, [Box(270, 190, 100, 100)]) for rgb in fields]
    assert len(views) == 16
    assert find_overlaps(views) == []


def test_the_same_cell_in_other_surroundings_is_not_the_same_place(fields):
    box = Box(250, 170, 120, 120)
    one, other = fields[0].copy(), fields[5].copy()
    other[box.y : box.y + box.height, box.x : box.x + box.width] = one[170:290, 250:370]
    assert find_overlaps([view(one, [box]), view(other, [box])]) == []


def test_cells_on_clear_glass_may_be_different_ones():
    rgb = np.full((480, 640, 3), 230, np.uint8)
    cv2.circle(rgb, (300, 200), 50, (90, 40, 130), -1)
    views = [view(np.roll(rgb, 40 * i, axis=1), [Box(250 + 40 * i, 150, 100, 100)]) for i in range(2)]
    assert find_overlaps(views) == []


def test_the_same_frame_is_not_the_same_place(fields):
    framed = [rgb.copy() for rgb in fields[:6]]
    for rgb in framed:
        rgb[:60], rgb[-60:], rgb[:, :80] = 0, 0, 0
    assert find_overlaps([view(rgb, [Box(270, 190, 100, 100)]) for rgb in framed]) == []


def in_window(rgb):
    """The field in the window of a camera program, with its buttons and a panel of text."""
    window = Image.new("RGB", (1280, 720), (240, 240, 240))
    draw, font = ImageDraw.Draw(window), ImageFont.load_default(14)
    for i in range(12):
        color = [(80, 140, 220), (200, 80, 80), (90, 170, 90), (160, 90, 190)][i % 4]
        draw.rectangle([10 + i * 40, 36, 40 + i * 40, 66], fill=color, outline=(150, 150, 150))
        draw.text((1100, 110 + i * 32), f"Exposure {i}", fill=0, font=font)
    window.paste(Image.fromarray(rgb).resize((576, 432)), (128, 86))
    return np.array(window)


def test_the_same_window_is_not_the_same_place(fields):
    cell, button = Box(290, 250, 100, 100), Box(10, 36, 30, 30)  # which a detector takes for a cell
    windows = [view(in_window(rgb), [cell, button]) for rgb in fields]
    assert find_overlaps(windows) == []
    again = view(in_window(np.clip(fields[2] * 0.97, 0, 255).astype(np.uint8)), [cell, button])
    (found,) = find_overlaps([*windows, again])
    assert (found.first, found.second) == (2, 16)


def test_one_place_photographed_again_and_again_is_found(fields):
    rgb, box = fields[0], Box(270, 190, 100, 100)
    noise = np.random.default_rng(0)
    views = [view(np.clip(rgb + noise.normal(0, 2, rgb.shape), 0, 255).astype(np.uint8), [box]) for _ in range(6)]
    assert {found.second for found in find_overlaps(views)} == {1, 2, 3, 4, 5}


def test_fields_of_other_sizes_are_not_compared(smear):
    one = cut(smear, 100, 50)
    other = view(smear[50 : 50 + HEIGHT, 100 : 100 + WIDTH + 8], [Box(400, 300, 90, 90)])
    assert find_overlaps([one, other]) == []
    assert len(find_overlaps([one, one, other])) == 1


def test_cells_of_a_few_pixels_are_not_compared(smear):
    one = cut(smear, 100, 50)
    tiny = FieldView(one.thumbnail, tuple(Box(b.x, b.y, 12, 12) for b in one.cells))
    assert find_overlaps([tiny, tiny]) == []
