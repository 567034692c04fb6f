"""Focus, crowding and colors of drawn fields whose answer is known, and of real ones that are blurred."""

import tracemalloc

import cv2
import numpy as np
import pytest

from wbctool.imaging.frame import find_image_area
from wbctool.imaging.reader import read_field
from wbctool.inference.color_range import ColorRange
from wbctool.limits import Limits
from wbctool.stages.duplicates import find_duplicates, make_thumbnail
from wbctool.stages.focus import _squared_gradients, estimate_blur_px
from wbctool.stages.quality import (
    apply_quality_limits,
    color_distance,
    compute_quality_flags,
    measure_colors,
    measure_coverage,
    measure_quality,
    red_cell_coverage,
)
from wbctool.types.cells import RED_CELL_UM, Box, Detection, Field, ObjectClass
from wbctool.types.slides import FieldColors, FieldQuality

LIMITS = Limits()


def discs(number, sigma_px=0.0):
    """A field with red cells of 80 px on a grid, blurred by a Gaussian, and their detections."""
    rgb = np.full((400, 400, 3), 230, np.uint8)
    found = []
    for i in range(number):
        x, y = 50 + 100 * (i % 4), 50 + 100 * (i // 4)
        cv2.circle(rgb, (x, y), 40, (210, 150, 150), -1)
        found.append(Detection(Box(x - 40, y - 40, 80, 80), 0.9, object_class=ObjectClass.RED_CELL))
    if sigma_px:
        rgb = cv2.GaussianBlur(rgb, (0, 0), sigma_px)
    return Field("f.png", rgb.astype(np.uint8)), found


def quality(**values):
    plain = {
        "blur_um": 0.1,
        "blur_px": 2.0,
        "coverage": 0.4,
        "background_color": None,
        "cell_color": None,
        "stain_delta_e": None,
    }
    return FieldQuality("f", **(plain | values))


class TestFocus:
    @pytest.mark.parametrize("sigma_px", [1.5, 2.0, 3.0])
    def test_estimate_blur_px_finds_the_width_of_an_edge(self, sigma_px):
        field, found = discs(9, sigma_px)
        measured = measure_quality(field, found, ())
        assert measured.blur_px == pytest.approx(sigma_px, rel=0.2)
        assert measured.blur_um == pytest.approx(measured.blur_px * RED_CELL_UM / 80)

    def test_estimate_blur_px_with_absurd_scale_takes_little_memory(self):
        field, found = discs(9, 2.0)
        tracemalloc.start()
        measured = measure_quality(field, found, (), um_per_px=10.0)  # red cells of 0.8 mm
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200e6
        assert measured.blur_px is not None

    def test_estimate_blur_px_rises_with_sigma(self):
        widths = [measure_quality(*discs(9, sigma), ()).blur_um for sigma in (0, 1, 2, 3, 4)]
        assert widths == sorted(widths)

    def test_measure_quality_prefers_the_laboratorys_scale(self):
        field, found = discs(4, 2.0)
        measured = measure_quality(field, found, (), um_per_px=0.2)
        assert measured.blur_um == pytest.approx(0.2 * measured.blur_px)
        assert measured.red_cell_um == pytest.approx(80 * 0.2)
        assert measure_quality(field, found, ()).red_cell_um is None

    def test_measure_quality_without_scale_gives_no_blur(self):
        field, found = discs(4)
        white = [Detection(d.box, d.score) for d in found]
        assert measure_quality(field, white, ()).blur_um is None
        assert measure_quality(field, [], (), um_per_px=0.1).blur_um is None
        cut = [Detection(d.box, d.score, True, ObjectClass.RED_CELL) for d in found]
        assert measure_quality(field, cut, ()).blur_um is None

    def test_estimate_blur_px_samples_a_few_cells(self):
        field, found = discs(16, 2.0)
        assert estimate_blur_px(field, [d.box for d in found] * 100, 0.1) == pytest.approx(
            estimate_blur_px(field, [d.box for d in found], 0.1), rel=0.05
        )


class TestFrame:
    @pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (255, 105, 180)])
    def test_measure_quality_leaves_bars_out(self, color):
        field, found = discs(16)
        plain = measure_quality(field, found, ())
        bars = cv2.copyMakeBorder(field.rgb, 0, 0, 100, 100, cv2.BORDER_CONSTANT, value=color).astype(np.uint8)
        moved = [Detection(Box(d.box.x + 100, d.box.y, 80, 80), 0.9, object_class=ObjectClass.RED_CELL) for d in found]
        framed = measure_quality(Field("f.png", bars), moved, ())
        assert framed.coverage == pytest.approx(plain.coverage, abs=0.05)
        assert measure_coverage(Field("f.png", bars), moved) == framed.coverage
        assert measure_colors(Field("f.png", bars), moved) == framed.colors
        assert framed.background_color == pytest.approx(plain.background_color, abs=3)

    def test_measure_quality_leaves_the_ring_of_an_eyepiece_out(self):
        field, found = discs(16)
        y, x = np.mgrid[:400, :400] - 199.5
        inside = np.hypot(x, y) < 198
        framed = measure_quality(Field("f.png", (field.rgb * inside[..., None]).astype(np.uint8)), found, ())
        assert framed.coverage == pytest.approx(measure_quality(field, found, ()).coverage, abs=0.1)


class TestLimits:
    def test_apply_quality_limits_marks_blurred_fields(self):
        judged = apply_quality_limits([quality(blur_um=0.19), quality(blur_um=0.2), quality(blur_um=None)], LIMITS)
        assert [f.blurred for f in judged] == [False, True, False]

    def test_apply_quality_limits_pixel_limited_edges_are_not_blurred(self):
        assert not apply_quality_limits([quality(blur_um=0.5, blur_px=1.5)], LIMITS)[0].blurred

    def test_apply_quality_limits_compares_with_the_slides_median(self):
        sharp = [quality(blur_um=0.10)] * 5
        assert [f.blurred for f in apply_quality_limits([*sharp, quality(blur_um=0.16)], LIMITS)] == [
            *[False] * 5,
            True,
        ]
        assert not apply_quality_limits([*sharp[:3], quality(blur_um=0.16)], LIMITS)[-1].blurred  # too few to say

    def test_apply_quality_limits_marks_crowding_and_stain(self):
        (judged,) = apply_quality_limits([quality(coverage=0.63, stain_delta_e=5.1)], LIMITS)
        assert (judged.crowded, judged.stain_out_of_range) == (True, True)
        (judged,) = apply_quality_limits([quality(coverage=None, stain_delta_e=None)], LIMITS)
        assert (judged.crowded, judged.stain_out_of_range) == (False, False)

    @pytest.mark.parametrize(
        ("red_cell_um", "wrong"), [(None, False), (6.0, False), (9.5, False), (0.8, True), (80.0, True)]
    )
    def test_apply_quality_limits_marks_implausible_red_cells(self, red_cell_um, wrong):
        (judged,) = apply_quality_limits([quality(red_cell_um=red_cell_um, blur_um=0.3)], LIMITS)
        assert (judged.scale_mismatch, judged.blurred) == (wrong, not wrong)

    def test_compute_quality_flags_is_raised_above_the_share(self):
        fields = [quality(blur_um=0.3, coverage=0.9)] + [quality()] * 8
        assert compute_quality_flags(apply_quality_limits(fields, LIMITS), LIMITS) == {
            "blurred_fields",
            "crowded_fields",
        }
        assert (
            compute_quality_flags(apply_quality_limits([*fields, quality()], LIMITS), LIMITS) == set()
        )  # one in ten is not more
        assert compute_quality_flags([], LIMITS) == set()


class TestCrowding:
    @pytest.mark.parametrize("number", [4, 9, 16])
    def test_red_cell_coverage_is_the_share_under_red_cells(self, number):
        field, found = discs(number)
        expected = number * np.pi * 40**2 / 400**2
        assert measure_quality(field, found, ()).coverage == pytest.approx(expected, rel=0.08)

    def test_red_cell_coverage_counts_undetected_red_cells(self):
        field, found = discs(9)
        assert measure_quality(field, found[:3], ()).coverage == pytest.approx(
            measure_quality(field, found, ()).coverage
        )

    def test_red_cell_coverage_leaves_nucleated_cells_out(self):
        green = np.full((100, 100), 200, np.uint8)
        green[:50], red = 100, np.zeros((100, 100), bool)
        red[:10, :10] = True
        nucleated = np.zeros_like(red)
        nucleated[:50, 50:] = True
        assert red_cell_coverage(green, red, nucleated & False) == pytest.approx(0.5)
        assert red_cell_coverage(green, red, nucleated) < 0.4

    def test_red_cell_coverage_without_red_cells_is_none(self):
        field, _ = discs(4)
        assert measure_quality(field, [], ()).coverage is None


class TestColors:
    RANGES = (
        ColorRange(
            dataset="a", fields=9, background_low=(80, 0, 0), background_high=(90, 5, 5),
            cells_low=(40, 10, -30), cells_high=(60, 30, -10),
        ),
        ColorRange(
            dataset="b", fields=9, background_low=(60, 0, 0), background_high=(70, 5, 5),
            cells_low=(40, 10, -30), cells_high=(60, 30, -10),
        ),
    )  # fmt: skip

    @pytest.mark.parametrize(
        ("background", "cells", "expected"),
        [
            ((85, 1, 1), (50, 20, -20), 0),
            ((93, 9, 5), (50, 20, -20), 5),  # 3 lighter and 4 redder than a: a 3-4-5 triangle
            ((72, 1, 1), None, 2),  # nearer to b
            ((85, 1, 1), (50, 20, 0), 10),  # the worse of the two
        ],
    )
    def test_color_distance_is_that_to_the_nearest_dataset(self, background, cells, expected):
        assert color_distance(FieldColors(background, cells), self.RANGES) == pytest.approx(expected)

    def test_color_distance_without_reference_is_none(self):
        assert color_distance(FieldColors((85, 1, 1), None), ()) is None
        assert color_distance(FieldColors(None, None), self.RANGES) is None

    def test_measure_quality_gives_the_colors_of_a_field(self):
        measured = measure_quality(*discs(4), self.RANGES)
        assert measured.background_color == pytest.approx((91.2, 0, 0), abs=0.5)  # sRGB 230, 230, 230
        assert measured.cell_color is None
        assert measured.stain_delta_e == pytest.approx(1.2, abs=0.5)


def alike(thumbnails, correlation):
    nothing = dict.fromkeys(("blur_um", "blur_px", "coverage", "background_color", "cell_color", "stain_delta_e"))
    fields = [FieldQuality(str(n), **nothing, thumbnail=t.tobytes()) for n, t in enumerate(thumbnails)]
    return find_duplicates(fields, correlation)


class TestDuplicates:
    def test_find_duplicates_finds_a_field_saved_in_another_format(self, demo_slides):
        fields = [read_field(path) for path in sorted((demo_slides / "slide-01").iterdir())]
        _, jpeg = cv2.imencode(".jpg", fields[2].rgb, [cv2.IMWRITE_JPEG_QUALITY, 40])
        again = Field("again", cv2.resize(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), (500, 375)))
        thumbnails = [make_thumbnail(field.rgb) for field in fields]
        assert alike(thumbnails, LIMITS.duplicate_correlation) == {}
        assert alike([*thumbnails, make_thumbnail(again.rgb)], LIMITS.duplicate_correlation) == {"8": "2"}

    def test_find_duplicates_names_the_first_field(self, demo_slides):
        found = [Detection(Box(0, 0, 99, 99), 0.9)]
        a, b = (read_field(path) for path in sorted((demo_slides / "slide-01").iterdir())[:2])
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(a.rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 60])
        again = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        fields = [Field("a", a.rgb), Field("b", b.rgb), Field("c", again), Field("d", a.rgb)]
        judged = apply_quality_limits([measure_quality(field, found, ()) for field in fields], LIMITS)
        assert [(f.field, f.duplicate_of) for f in judged] == [("a", ""), ("b", ""), ("c", "a"), ("d", "a")]
        assert {f.thumbnail for f in judged} == {b""}

    @pytest.mark.parametrize("mirrored", [False, True])
    @pytest.mark.parametrize("quarters", [0, 1, 2, 3])
    def test_find_duplicates_finds_a_field_turned_by_a_viewer(self, demo_slides, quarters, mirrored):
        rgb = [read_field(path).rgb for path in sorted((demo_slides / "slide-01").iterdir())]
        turned = np.ascontiguousarray(np.rot90(rgb[3][:, ::-1] if mirrored else rgb[3], quarters))
        thumbnails = [make_thumbnail(one) for one in (*rgb, turned)]
        assert alike(thumbnails, LIMITS.duplicate_correlation) == {"8": "3"}

    def test_find_duplicates_leaves_fields_without_cells_out(self):
        blank = [measure_quality(Field(name, np.full((50, 50, 3), 200, np.uint8)), [], ()) for name in "ab"]
        assert [f.duplicate_of for f in apply_quality_limits(blank, LIMITS)] == ["", ""]

    def test_find_duplicates_leaves_uniform_fields_out(self):
        blank = make_thumbnail(np.full((50, 50, 3), 200, np.uint8))
        assert alike([blank, blank], 0.5) == {}

    def test_find_duplicates_far_apart_in_a_long_slide(self):
        noise = np.random.default_rng(1).normal(size=(1200, 256)).astype(np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        assert alike(list(noise), 0.97) == {}
        noise[1199] = noise[3]
        assert alike(list(noise), 0.97) == {"1199": "3"}
        noise[1199], noise[1101] = noise[5] * -1, noise[1100]
        assert alike(list(noise), 0.97) == {"1101": "1100"}


@pytest.mark.slow
@pytest.mark.parametrize(("sigma_px", "expected"), [(0, 0), (3, 14)])
def test_estimate_blur_px_separates_sharp_and_blurred_real_fields(demo_slides, sigma_px, expected):
    """The shipped detector on the 16 larger demo fields; benchmarks.field_quality set the limits on others."""
    from wbctool.inference.loading import load_model
    from wbctool.inference.model_card import DetectorCard, default_models_dir
    from wbctool.stages.detect import detect_blood_cells

    model = load_model(default_models_dir(), DetectorCard)
    blurred = 0
    for path in sorted(demo_slides.glob("slide-0[12]/*.jpg")):
        rgb = read_field(path).rgb
        field = Field(path.name, cv2.GaussianBlur(rgb, (0, 0), sigma_px) if sigma_px else rgb)
        (judged,) = apply_quality_limits([measure_quality(field, detect_blood_cells(field, model), ())], LIMITS)
        blurred += judged.blurred
    assert blurred >= expected if sigma_px else blurred == expected


def test_squared_gradients_do_not_depend_on_memory_alignment():
    """With cv2.magnitude they did: a slide's bytes changed with the number of workers."""
    rng, kept, found = np.random.default_rng(0), [], set()
    gray = rng.normal(120, 30, (131, 127)).astype(np.float32)
    for _ in range(300):
        kept.append(np.empty(int(rng.integers(1, 5000)), np.uint8))
        found.add(_squared_gradients([gray.copy(), gray.astype(np.uint8)]).tobytes())
    assert len(found) == 1


def test_squared_gradients_of_integers_equal_those_of_floats():
    """uint8 patches take another way through OpenCV."""
    gray = np.random.default_rng(0).integers(0, 256, (60, 45), np.uint8)
    np.testing.assert_array_equal(_squared_gradients([gray]), _squared_gradients([gray.astype(np.float32)]))


def _ring(gray):
    y, x = np.ogrid[: gray.shape[0], : gray.shape[1]]
    outside = (x / gray.shape[1] * 2 - 1) ** 2 + (y / gray.shape[0] * 2 - 1) ** 2 > 1
    return np.where(outside, 3, gray).astype(np.uint8)


def _bars(gray):
    gray = gray.copy()
    gray[:, :20] = gray[:, -30:] = 255
    gray[:12] = 0
    return gray


@pytest.mark.parametrize("frame", [_ring, _bars])
def test_make_thumbnail_other_fields_in_the_same_frame_are_not_alike(frame):
    noise = np.random.default_rng(0).integers(0, 256, (2, 12, 16), np.uint8)
    fields = [np.repeat(cv2.resize(n, (160, 120))[..., None], 3, axis=2) for n in noise]
    framed = [np.stack([frame(field[..., c]) for c in range(3)], axis=2) for field in fields]
    first, second, darker = (
        make_thumbnail(rgb, find_image_area(rgb)) for rgb in (*framed, (0.8 * framed[0]).astype(np.uint8))
    )
    assert first @ second < 0.5
    assert first @ darker > 0.9


def test_colors_and_crowding_of_a_stitched_field_are_those_of_its_parts():
    """In the image for colors its red cells measure 6 pixels; in one of 256 pixels they would measure one."""
    width, height, side = 3200, 2400, 16
    rgb = np.full((height, width, 3), (231, 230, 230), np.uint8)
    found = []
    for y in range(0, height, 25):
        for x in range(0, width, 25):
            is_white_cell = (x // 25 + y // 25) % 30 == 0
            color = (90, 60, 150) if is_white_cell else (200, 140, 140)
            cv2.rectangle(rgb, (x, y), (x + side - 1, y + side - 1), color, -1)
            kind = ObjectClass.NUCLEATED if is_white_cell else ObjectClass.RED_CELL
            found.append(Detection(Box(x, y, side, side), 0.9, object_class=kind))
    part = Field("part", np.ascontiguousarray(rgb[:400, :400]))
    in_part = [d for d in found if d.box.x < 400 and d.box.y < 400]
    whole, alone = measure_quality(Field("whole", rgb), found, ()), measure_quality(part, in_part, ())
    assert whole.coverage == pytest.approx(alone.coverage, abs=0.05)
    assert whole.background_color == pytest.approx(alone.background_color, abs=2)
    assert whole.cell_color == pytest.approx(alone.cell_color, abs=6)
