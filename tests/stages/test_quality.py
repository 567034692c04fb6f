"""Focus, crowding and colours of drawn fields whose answer is known, and of real ones that are blurred."""

import tracemalloc

import cv2
import numpy as np
import pytest

from wbctool.cards import ColourRange
from wbctool.records import Box, Detection, Field, Target
from wbctool.settings import Limits
from wbctool.slide_facts import FieldQuality
from wbctool.stages.images import read_field
from wbctool.stages.quality import (
    RED_CELL_UM,
    _squared_gradients,
    blur_of,
    colour_distance,
    cover_of,
    first_alike,
    judge_fields,
    measure_field,
    quality_flags,
    thumbnail,
)

LIMITS = Limits()


def discs(number, sigma_px=0.0, side=400, radius=40, clear=230, dark=150):
    """A field with red cells of 80 px on a grid, blurred by a Gaussian, and their detections."""
    rgb = np.full((side, side, 3), clear, np.uint8)
    found = []
    for i in range(number):
        x, y = 50 + 100 * (i % 4), 50 + 100 * (i // 4)
        cv2.circle(rgb, (x, y), radius, (dark + 60, dark, dark), -1)
        found.append(Detection(Box(x - radius, y - radius, 2 * radius, 2 * radius), 0.9, target=Target.RED_CELL))
    if sigma_px:
        rgb = cv2.GaussianBlur(rgb, (0, 0), sigma_px)
    return Field("f.png", rgb.astype(np.uint8)), found


def quality(**values):
    plain = {"blur_um": 0.1, "blur_px": 2.0, "cover": 0.4, "background": None, "cells": None, "stain_de": None}
    return FieldQuality("f", **(plain | values))


class TestFocus:
    @pytest.mark.parametrize("sigma_px", [1.5, 2.0, 3.0])
    def test_the_width_of_an_edge_is_found(self, sigma_px):
        field, found = discs(9, sigma_px)
        measured = measure_field(field, found, ())
        assert measured.blur_px == pytest.approx(sigma_px, rel=0.2)
        assert measured.blur_um == pytest.approx(measured.blur_px * RED_CELL_UM / 80)

    def test_a_scale_that_cannot_be_costs_no_memory(self):
        field, found = discs(9, 2.0)
        tracemalloc.start()
        measured = measure_field(field, found, (), um_per_px=10.0)  # red cells of 0.8 mm
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200e6
        assert measured.blur_px is not None

    def test_blur_only_ever_rises_with_sigma(self):
        widths = [measure_field(*discs(9, sigma), ()).blur_um for sigma in (0, 1, 2, 3, 4)]
        assert widths == sorted(widths)

    def test_the_scale_is_the_laboratorys_where_it_says_so(self):
        field, found = discs(4, 2.0)
        measured = measure_field(field, found, (), um_per_px=0.2)
        assert measured.blur_um == pytest.approx(0.2 * measured.blur_px)
        assert measured.red_cell_um == pytest.approx(80 * 0.2)
        assert measure_field(field, found, ()).red_cell_um is None

    def test_without_red_cells_or_scale_nothing_is_said(self):
        field, found = discs(4)
        white = [Detection(d.box, d.score) for d in found]
        assert measure_field(field, white, ()).blur_um is None
        assert measure_field(field, [], (), um_per_px=0.1).blur_um is None
        cut = [Detection(d.box, d.score, True, Target.RED_CELL) for d in found]
        assert measure_field(field, cut, ()).blur_um is None

    def test_a_thousand_cells_cost_no_more_than_sixty(self):
        field, found = discs(16, 2.0)
        assert blur_of(field, [d.box for d in found] * 100, 0.1) == pytest.approx(
            blur_of(field, [d.box for d in found], 0.1), rel=0.05
        )


class TestLimits:
    def test_of_focus(self):
        judged = judge_fields([quality(blur_um=0.19), quality(blur_um=0.2), quality(blur_um=None)], LIMITS)
        assert [f.blurred for f in judged] == [False, True, False]

    def test_edges_as_sharp_as_the_pixels_allow_are_not_blurred(self):
        assert not judge_fields([quality(blur_um=0.5, blur_px=1.5)], LIMITS)[0].blurred

    def test_of_a_slides_own_median(self):
        sharp = [quality(blur_um=0.10)] * 5
        assert [f.blurred for f in judge_fields([*sharp, quality(blur_um=0.16)], LIMITS)] == [*[False] * 5, True]
        assert not judge_fields([*sharp[:3], quality(blur_um=0.16)], LIMITS)[-1].blurred  # too few to say

    def test_of_crowding_and_colours(self):
        (judged,) = judge_fields([quality(cover=0.63, stain_de=5.1)], LIMITS)
        assert (judged.crowded, judged.strange) == (True, True)
        (judged,) = judge_fields([quality(cover=None, stain_de=None)], LIMITS)
        assert (judged.crowded, judged.strange) == (False, False)

    @pytest.mark.parametrize(
        ("red_cell_um", "wrong"), [(None, False), (6.0, False), (9.5, False), (0.8, True), (80.0, True)]
    )
    def test_of_red_cells_that_cannot_be(self, red_cell_um, wrong):
        (judged,) = judge_fields([quality(red_cell_um=red_cell_um, blur_um=0.3)], LIMITS)
        assert (judged.misscaled, judged.blurred) == (wrong, not wrong)

    def test_a_share_of_the_fields_raises_the_flag(self):
        fields = [quality(blur_um=0.3, cover=0.9)] + [quality()] * 8
        assert quality_flags(judge_fields(fields, LIMITS), LIMITS) == {"blurred_fields", "crowded_fields"}
        assert quality_flags(judge_fields([*fields, quality()], LIMITS), LIMITS) == set()  # one in ten is not more
        assert quality_flags([], LIMITS) == set()


class TestCrowding:
    @pytest.mark.parametrize("number", [4, 9, 16])
    def test_the_share_under_cells(self, number):
        field, found = discs(number)
        expected = number * np.pi * 40**2 / 400**2
        assert measure_field(field, found, ()).cover == pytest.approx(expected, rel=0.08)

    def test_cells_that_were_not_found_count_too(self):
        field, found = discs(9)
        assert measure_field(field, found[:3], ()).cover == pytest.approx(measure_field(field, found, ()).cover)

    def test_nucleated_cells_do_not(self):
        green = np.full((100, 100), 200, np.uint8)
        green[:50], red = 100, np.zeros((100, 100), bool)
        red[:10, :10] = True
        nucleated = np.zeros_like(red)
        nucleated[:50, 50:] = True
        assert cover_of(green, red, nucleated & False) == pytest.approx(0.5)
        assert cover_of(green, red, nucleated) < 0.4

    def test_without_red_cells_nothing_is_said(self):
        field, _ = discs(4)
        assert measure_field(field, [], ()).cover is None


class TestColours:
    RANGES = (
        ColourRange(
            origin="a", fields=9, background_low=(80, 0, 0), background_high=(90, 5, 5),
            cells_low=(40, 10, -30), cells_high=(60, 30, -10),
        ),
        ColourRange(
            origin="b", fields=9, background_low=(60, 0, 0), background_high=(70, 5, 5),
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
    def test_the_distance_to_the_nearest_origin(self, background, cells, expected):
        assert colour_distance(background, cells, self.RANGES) == pytest.approx(expected)

    def test_what_is_not_known_is_not_said(self):
        assert colour_distance((85, 1, 1), None, ()) is None
        assert colour_distance(None, None, self.RANGES) is None

    def test_of_a_field(self):
        measured = measure_field(*discs(4), self.RANGES)
        assert measured.background == pytest.approx((91.2, 0, 0), abs=0.5)  # sRGB 230, 230, 230
        assert measured.cells is None
        assert measured.stain_de == pytest.approx(1.2, abs=0.5)


def alike(thumbnails, correlation):
    nothing = dict.fromkeys(("blur_um", "blur_px", "cover", "background", "cells", "stain_de"))
    fields = [FieldQuality(str(n), **nothing, thumbnail=t.tobytes()) for n, t in enumerate(thumbnails)]
    return first_alike(fields, correlation)


class TestTheSamePicture:
    def test_saved_in_another_way(self, demo_slides):
        fields = [read_field(path) for path in sorted((demo_slides / "slide-01").iterdir())]
        _, jpeg = cv2.imencode(".jpg", fields[2].rgb, [cv2.IMWRITE_JPEG_QUALITY, 40])
        again = Field("again", cv2.resize(cv2.imdecode(jpeg, cv2.IMREAD_COLOR), (500, 375)))
        thumbnails = [thumbnail(field.rgb) for field in fields]
        assert alike(thumbnails, LIMITS.duplicate_correlation) == {}
        assert alike([*thumbnails, thumbnail(again.rgb)], LIMITS.duplicate_correlation) == {"8": "2"}

    def test_the_first_that_shows_the_same_is_named(self, demo_slides):
        found = [Detection(Box(0, 0, 99, 99), 0.9)]
        a, b = (read_field(path) for path in sorted((demo_slides / "slide-01").iterdir())[:2])
        _, encoded = cv2.imencode(".jpg", cv2.cvtColor(a.rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 60])
        again = cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        fields = [Field("a", a.rgb), Field("b", b.rgb), Field("c", again), Field("d", a.rgb)]
        judged = judge_fields([measure_field(field, found, ()) for field in fields], LIMITS)
        assert [(f.field, f.same_as) for f in judged] == [("a", ""), ("b", ""), ("c", "a"), ("d", "a")]
        assert {f.thumbnail for f in judged} == {b""}

    def test_fields_without_cells_are_all_alike_and_none_is_named(self):
        blank = [measure_field(Field(name, np.full((50, 50, 3), 200, np.uint8)), [], ()) for name in "ab"]
        assert [f.same_as for f in judge_fields(blank, LIMITS)] == ["", ""]

    def test_fields_of_one_grey_are_not_the_same_picture(self):
        blank = thumbnail(np.full((50, 50, 3), 200, np.uint8))
        assert alike([blank, blank], 0.5) == {}

    def test_far_apart_in_a_long_slide(self):
        noise = np.random.default_rng(1).normal(size=(1200, 256)).astype(np.float32)
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        assert alike(list(noise), 0.97) == {}
        noise[1199] = noise[3]
        assert alike(list(noise), 0.97) == {"1199": "3"}
        noise[1199], noise[1101] = noise[5] * -1, noise[1100]
        assert alike(list(noise), 0.97) == {"1101": "1100"}


@pytest.mark.parametrize(("sigma_px", "expected"), [(0, 0), (3, 14)])
def test_real_fields_sharp_and_blurred(demo_slides, sigma_px, expected):
    """The shipped detector on the 16 larger demo fields; benchmarks.field_quality set the limits on others."""
    from wbctool.cards import DetectorCard, default_models_dir
    from wbctool.models import load_model
    from wbctool.stages.detect import detect_all_cells

    model = load_model(default_models_dir(), DetectorCard)
    blurred = 0
    for path in sorted(demo_slides.glob("slide-0[12]/*.jpg")):
        rgb = read_field(path).rgb
        field = Field(path.name, cv2.GaussianBlur(rgb, (0, 0), sigma_px) if sigma_px else rgb)
        (judged,) = judge_fields([measure_field(field, detect_all_cells(field, model), ())], LIMITS)
        blurred += judged.blurred
    assert blurred >= expected if sigma_px else blurred == expected


def test_gradients_do_not_hang_on_where_the_pixels_lie_in_memory():
    """With cv2.magnitude they did: a slide's bytes changed with the number of workers."""
    rng, kept, found = np.random.default_rng(0), [], set()
    grey = rng.normal(120, 30, (131, 127)).astype(np.float32)
    for _ in range(300):
        kept.append(np.empty(int(rng.integers(1, 5000)), np.uint8))
        found.add(_squared_gradients([grey.copy(), grey.astype(np.uint8)]).tobytes())
    assert len(found) == 1


def test_whole_numbers_have_the_same_edges():
    """uint8 patches take another way through OpenCV."""
    grey = np.random.default_rng(0).integers(0, 256, (60, 45), np.uint8)
    np.testing.assert_array_equal(_squared_gradients([grey]), _squared_gradients([grey.astype(np.float32)]))
