"""A field that cannot be a stained smear is refused by name; a smear under any lamp, and blank glass, are not."""

import cv2
import numpy as np
import pytest
from conftest import DEMO
from PIL import Image

from wbctool.errors import FieldImplausible, FieldUnreadable, FieldWronglySaved
from wbctool.imaging.reader import read_field
from wbctool.stages.plausibility import check_plausibility, find_implausibility
from wbctool.types.cells import Field

CASTS = {
    "white": (1, 1, 1),
    "yellow": (1, 0.9, 0.6),
    "blue": (0.7, 0.85, 1),
    "pink": (1, 0.8, 0.9),
    "green": (0.8, 1, 0.8),
}
PLANES = {"RBG": (0, 2, 1), "GRB": (1, 0, 2), "GBR": (1, 2, 0), "BRG": (2, 0, 1)}


@pytest.fixture(scope="module")
def smear():
    """A field of 480 x 640 pixels as a camera sees it: red cells with pale centers, two white cells, glass, noise."""
    noise = np.random.default_rng(0)
    rgb = np.full((480, 640, 3), (232, 228, 220), np.uint8)
    for x, y in noise.integers(20, (620, 460), (70, 2)).tolist():
        cv2.circle(rgb, (x, y), 24, (218, 168, 165), -1, cv2.LINE_AA)
        cv2.circle(rgb, (x, y), 8, (228, 200, 195), -1, cv2.LINE_AA)
    for x, y in ((200, 150), (450, 320)):
        cv2.circle(rgb, (x, y), 44, (205, 190, 215), -1, cv2.LINE_AA)
        cv2.circle(rgb, (x, y), 30, (110, 60, 150), -1, cv2.LINE_AA)
    rgb = cv2.GaussianBlur(rgb, (0, 0), 1.5)
    return np.clip(rgb + noise.normal(0, 1.5, rgb.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def real():
    return read_field(min((DEMO / "slide-01").iterdir())).rgb


@pytest.fixture(params=["drawn", "real"])
def rgb(request, smear, real):
    return smear if request.param == "drawn" else real


def lit(rgb, cast="white", gamma=1.0, brightness=1.0):
    """The same field under another lamp, by another camera."""
    light = (rgb / 255.0) ** gamma * np.array(CASTS[cast]) * brightness
    return np.clip(np.round(light * 255), 0, 255).astype(np.uint8)


def complaint(rgb):
    """What is wrong with a field; None if it is plausible."""
    error = find_implausibility(rgb)
    return None if error is None else str(error)


def gray(rgb):
    return cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def as_jpeg(rgb, quality=50):
    encoded = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1])


def with_channel(rgb, channel, values):
    rgb = rgb.copy()
    rgb[..., channel] = values
    return rgb


def with_width(rgb, width):
    pixels = rgb.reshape(-1, 3)
    return pixels[: len(pixels) // width * width].reshape(-1, width, 3)


def with_tiles_mixed(rgb, side):
    rows, columns = rgb.shape[0] // side, rgb.shape[1] // side
    tiles = rgb[: rows * side, : columns * side].reshape(rows, side, columns, side, 3).swapaxes(1, 2).copy()
    mixed = np.random.default_rng(1).permutation(tiles.reshape(-1, side, side, 3)).reshape(tiles.shape)
    return mixed.swapaxes(1, 2).reshape(rows * side, columns * side, 3)


class TestSmear:
    @pytest.mark.parametrize("cast", CASTS)
    @pytest.mark.parametrize(
        ("gamma", "brightness"), [(1, 1), (0.6, 1), (2.2, 1), (1, 0.6), (1, 1.2), (0.6, 1.2), (1.4, 0.8)]
    )
    def test_smear_under_any_lamp_passes(self, rgb, cast, gamma, brightness):
        assert complaint(lit(rgb, cast, gamma, brightness)) is None

    def test_black_corners_ring_and_bars_pass(self, rgb):
        height, width = rgb.shape[:2]
        y, x = np.mgrid[:height, :width]
        ring = np.hypot(y - height / 2, x - width / 2) < height / 2
        corner = x + y > width / 2
        bars = abs(x - width / 2) < width / 3
        for mask in (ring, corner, bars):
            assert complaint(rgb * mask[..., None].astype(np.uint8)) is None

    @pytest.mark.parametrize("color", [(0, 0, 0), (40, 40, 40), (255, 255, 255), (255, 105, 180), (20, 60, 200)])
    def test_border_and_ring_of_any_color_pass(self, rgb, color):
        assert complaint(cv2.copyMakeBorder(rgb, 30, 30, 30, 30, cv2.BORDER_CONSTANT, value=color)) is None
        assert complaint(cv2.copyMakeBorder(rgb, 0, 0, 160, 160, cv2.BORDER_CONSTANT, value=color)) is None
        if max(color) < 50:
            y, x = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
            inside = cv2.GaussianBlur((np.hypot(y - 240, x - 320) < 228).astype(np.float32), (0, 0), 12)[..., None]
            assert complaint((rgb * inside + np.array(color) * (1 - inside)).astype(np.uint8)) is None

    @pytest.mark.parametrize("quality", [None, 85])
    @pytest.mark.parametrize(
        ("corner", "side", "color", "thickness"),
        [
            ((448, 442), (160, 10), (255, 0, 0), -1),  # a scale bar
            ((12, 420), (150, 44), (0, 130, 70), -1),  # a laboratory's logo
            ((200, 120), (220, 220), (0, 255, 0), 3),  # the box of another program
            ((200, 120), (220, 220), (255, 0, 0), 3),
        ],
    )
    def test_overlays_in_pure_colors_pass(self, rgb, corner, side, color, thickness, quality):
        marked = rgb.copy()
        cv2.rectangle(marked, corner, (corner[0] + side[0], corner[1] + side[1]), color, thickness)
        cv2.putText(marked, "20 um", (480, 430), cv2.FONT_HERSHEY_SIMPLEX, 1, color, 2)
        assert complaint(marked if quality is None else as_jpeg(marked, quality)) is None

    @pytest.mark.parametrize("planes", sorted(PLANES))
    def test_overlays_do_not_hide_exchanged_channels(self, real, planes):
        exchanged = np.ascontiguousarray(real[..., PLANES[planes]])
        cv2.rectangle(exchanged, (200, 120), (420, 340), (255, 0, 0), 3)
        assert "the color channels seem to be exchanged" in complaint(exchanged)

    def test_noise_flicker_and_a_reticle_pass(self, rgb):
        noise = np.random.default_rng(4).normal(0, 10, rgb.shape)
        bands = 0.8 + 0.2 * np.sin(np.arange(len(rgb)) / len(rgb) * 6 * np.pi)
        assert complaint(np.clip(rgb + noise, 0, 255).astype(np.uint8)) is None
        assert complaint((rgb * bands[:, None, None]).astype(np.uint8)) is None
        lines = rgb.copy()
        lines[::60, :] = lines[:, ::80] = 0
        lines[1::60, :] = lines[:, 1::80] = 0
        assert complaint(lines) is None

    def test_repeated_rows_and_columns_are_refused(self, rgb):
        frozen = rgb.copy()
        frozen[400:] = frozen[399]
        assert "one row is repeated" in complaint(frozen)
        assert "one column is repeated" in complaint(np.ascontiguousarray(frozen.transpose(1, 0, 2)))
        bar = rgb.copy()
        bar[400:] = (240, 240, 240)
        bar[400:, 300:310] = (90, 90, 90)
        assert complaint(bar) is None
        assert complaint(cv2.resize(rgb, None, fx=4, fy=4, interpolation=cv2.INTER_NEAREST)) is None

    @pytest.mark.parametrize(("turns", "where"), [(1, "right"), (2, "upper"), (3, "left")])
    def test_missing_data_are_found_at_any_side(self, rgb, turns, where):
        damaged = rgb.copy()
        damaged[240:] = 128
        assert f"the {where} 240 of 480" in complaint(np.ascontiguousarray(np.rot90(damaged, turns)))

    def test_many_missing_rows_may_end_anywhere(self, rgb):
        damaged = rgb.copy()
        damaged[-237:] = 128
        assert "the lower 237 of 480 rows" in complaint(damaged)

    @pytest.mark.parametrize(("rows", "columns"), [(16, 100), (16, 500), (160, 100), (400, 500), (160, 0), (400, 0)])
    def test_rows_of_the_gray_of_missing_data_are_refused(self, rgb, rows, columns):
        """The last row of blocks of what is left may end anywhere."""
        damaged = rgb.copy()
        damaged[-rows:] = damaged[-rows - 16 : -rows, rgb.shape[1] - columns :] = 128
        assert f"the lower {rows} of {len(rgb)} rows are of the gray" in complaint(damaged)
        assert "rows are of the gray" in complaint(as_jpeg(damaged, 95))
        if columns:
            assert "rows are of the gray" in complaint(damaged[5:-3])

    def test_gray_border_bar_and_caption_pass(self, rgb):
        assert complaint(cv2.copyMakeBorder(rgb, 32, 32, 32, 32, cv2.BORDER_CONSTANT, value=(128,) * 3)) is None
        for rows in (16, 32, 48):
            framed = cv2.copyMakeBorder(rgb, 0, rows, 0, 0, cv2.BORDER_CONSTANT, value=(128,) * 3)
            assert complaint(framed) is None
            cv2.putText(framed, "20 um", (10, 484 + rows // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1)
            assert complaint(framed) is None

    def test_dark_picture_in_a_white_border_is_refused(self, rgb):
        framed = cv2.copyMakeBorder(lit(rgb, brightness=0.3), 30, 30, 30, 30, cv2.BORDER_CONSTANT, value=(255,) * 3)
        assert "too dark" in complaint(framed)

    def test_vignette_passes(self, rgb):
        height, width = rgb.shape[:2]
        y, x = np.mgrid[:height, :width]
        shade = 1 - 0.6 * (np.hypot(y - height / 2, x - width / 2) / np.hypot(height / 2, width / 2)) ** 2
        assert complaint((rgb * shade[..., None]).astype(np.uint8)) is None

    @pytest.mark.parametrize("color", [(255, 255, 255), (220, 220, 220), (232, 228, 190), (150, 200, 160)])
    def test_blank_glass_passes(self, color):
        blank = np.full((480, 640, 3), color, np.uint8)
        grain = np.random.default_rng(0).normal(0, 2, blank.shape)
        assert complaint(blank) is None
        assert complaint(np.clip(blank + grain, 0, 255).astype(np.uint8)) is None

    @pytest.mark.parametrize("shape", [(1, 1), (1, 500), (7, 5), (40, 64)])
    def test_tiny_image_is_judged_without_an_error(self, smear, shape):
        assert complaint(smear[: shape[0], : shape[1]]) is None

    @pytest.mark.parametrize("channel", [0, 2])
    def test_overexposed_channel_of_red_cells_passes(self, channel):
        rgb = np.full((240, 320, 3), (255, 250, 255), np.uint8)
        for x, y in np.random.default_rng(0).integers(20, (300, 220), (30, 2)).tolist():
            cv2.circle(rgb, (x, y), 12, (245, 190, 240), -1, cv2.LINE_AA)
        rgb = with_channel(rgb, channel, 255)
        rgb[10, 10] = 200, 180, 210
        assert complaint(rgb) is None

    def test_field_is_not_changed(self, smear):
        before = smear.copy()
        check_plausibility(Field("f", smear))
        assert (smear == before).all()


class TestColors:
    @pytest.mark.parametrize(
        "change", [gray, lambda a: as_jpeg(gray(a)), lambda a: lit(gray(a), "yellow"), lambda a: lit(gray(a), gamma=2)]
    )
    def test_gray_picture_is_refused(self, rgb, change):
        assert "gray" in complaint(change(rgb))

    @pytest.mark.parametrize("cast", CASTS)
    @pytest.mark.parametrize("gamma", [0.7, 1, 1.8])
    def test_exchanged_red_and_blue_are_refused(self, rgb, cast, gamma):
        assert "red and blue are exchanged" in complaint(lit(rgb[..., ::-1], cast, gamma))

    @pytest.mark.parametrize("order", PLANES.values(), ids=PLANES)
    def test_other_orders_of_the_channels_are_refused(self, rgb, order):
        assert "no stain has these colors" in complaint(rgb[..., list(order)])

    @pytest.mark.parametrize("channel", [0, 1, 2])
    @pytest.mark.parametrize("value", [0, 128, 255])
    def test_constant_channel_is_refused(self, rgb, channel, value):
        assert "channel holds no picture" in complaint(with_channel(rgb, channel, value))

    @pytest.mark.parametrize(("channel", "other"), [(0, 1), (1, 2), (2, 0)])
    def test_channel_that_copies_another_is_refused(self, rgb, channel, other):
        assert "hold the same picture" in complaint(with_channel(rgb, channel, rgb[..., other]))

    @pytest.mark.parametrize("ground", [(0, 0, 0), (6, 6, 14)])
    @pytest.mark.parametrize("color", [(60, 90, 250), (230, 230, 230), (30, 220, 60)])
    def test_bright_cells_on_a_dark_ground_are_refused(self, ground, color):
        """As in dark field, fluorescence, and a negative of overexposed glass."""
        rgb = np.full((480, 640, 3), ground, np.uint8)
        for x, y in np.random.default_rng(0).integers(20, (620, 460), (60, 2)).tolist():
            cv2.circle(rgb, (x, y), 24, color, -1, cv2.LINE_AA)
            cv2.circle(rgb, (x, y), 9, tuple(value // 2 for value in color), -1, cv2.LINE_AA)
        assert "the ground is dark" in complaint(rgb)

    @pytest.mark.parametrize("share", [1 / 16, 0.3])
    @pytest.mark.parametrize("label_share", [0.03, 0.09, 0.12])
    def test_dark_picture_with_a_bright_label_is_too_dark(self, rgb, share, label_share):
        dark = (rgb * share).astype(np.uint8)
        dark[: round(label_share * 2 * len(dark)), : dark.shape[1] // 2] = 255
        assert "the picture is too dark for a smear" in complaint(dark)

    def test_negative_of_overexposed_glass_is_refused(self, smear):
        assert "the ground is dark" in complaint(255 - np.clip(smear * 1.12, 0, 255).astype(np.uint8))

    def test_negative_is_refused(self, smear):
        assert "the glass is darker than the cells" in complaint(255 - smear)


class TestBrightness:
    @pytest.mark.parametrize("brightness", [0, 0.05, 0.25, 0.35])
    def test_dark_picture_is_refused_with_its_brightness(self, rgb, brightness):
        assert "too dark" in complaint(lit(rgb, brightness=brightness))

    def test_dense_field_with_a_strip_of_glass_is_not_too_dark(self):
        """Four fifths of the field are thick blood, less than half as bright as the glass."""
        rng = np.random.default_rng(0)
        dense = np.clip(rng.normal((78, 30, 52), 8, (400, 400, 3)), 0, 255)
        dense[:, :80] = np.clip(rng.normal((178, 172, 180), 3, (400, 80, 3)), 0, 255)
        assert "too dark" not in str(complaint(dense.astype(np.uint8)))

    @pytest.mark.parametrize("bits", [10, 12, 14])
    def test_few_bits_in_more_are_refused(self, rgb, bits):
        assert "too dark" in complaint(rgb >> (16 - bits))


class TestPixelOrder:
    @pytest.mark.parametrize("period", [32, 64])
    def test_mixed_tiles_are_refused(self, rgb, period):
        assert "disorder" in complaint(with_tiles_mixed(rgb, period))

    @pytest.mark.parametrize("scale", [0.1, 0.15, 0.2, 0.25, 0.3])
    def test_photographs_side_by_side_are_a_smear(self, scale):
        photographs = [
            cv2.resize(read_field(path).rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            for path in sorted((DEMO / "slide-01").iterdir())
        ]
        order = np.random.default_rng(0).permutation(np.arange(144) % len(photographs)).reshape(12, 12)
        rgb = np.vstack([np.hstack([photographs[index] for index in row]) for row in order.tolist()])
        assert complaint(rgb) is None

    def test_mixed_strips_are_refused(self, rgb):
        strips = rgb.reshape(-1, 32, *rgb.shape[1:])
        mixed = np.random.default_rng(1).permutation(strips).reshape(rgb.shape)
        assert "disorder" in complaint(mixed)

    def test_black_border_is_no_repetition(self):
        rgb = np.random.default_rng(0).normal(210, 1.5, (1200, 1600, 3)).astype(np.uint8)
        rgb[:, :139] = rgb[:95] = 0
        assert complaint(rgb) is None

    @pytest.mark.parametrize("width", [603, 624, 660, 320, 1280])
    def test_wrong_width_is_refused(self, rgb, width):
        assert "disorder" in complaint(with_width(rgb, width))

    @pytest.mark.parametrize("shift", [-2, -1, 1, 2, 3, 7])
    def test_rows_that_are_shifted_are_refused(self, rgb, shift):
        assert "disorder" in complaint(as_jpeg(with_width(rgb, rgb.shape[1] + shift), 85))
        rolled = np.stack([np.roll(row, i * shift, 0) for i, row in enumerate(rgb)])
        assert "disorder" in complaint(rolled)

    @pytest.mark.parametrize("angle", [30, 45, 60, 135])
    def test_field_smeared_by_a_moving_stage_passes(self, rgb, angle):
        kernel = np.zeros((15, 15), np.float32)
        step = 7 * np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        cv2.line(kernel, tuple((7 - step).round().astype(int)), tuple((7 + step).round().astype(int)), 1)
        assert complaint(cv2.filter2D(rgb, -1, kernel / kernel.sum())) is None

    def test_planes_read_as_pixels_and_pixels_as_planes_are_refused(self, rgb):
        height, width = rgb.shape[:2]
        assert complaint(np.moveaxis(rgb, -1, 0).reshape(height, width, 3)) is not None
        assert "disorder" in complaint(np.moveaxis(rgb.reshape(3, height, width), 0, -1))

    def test_mixed_rows_and_pixels_are_refused(self, rgb):
        random = np.random.default_rng(2)
        assert "disorder" in complaint(random.permutation(rgb))
        assert "disorder" in complaint(random.permutation(rgb.reshape(-1, 3)).reshape(rgb.shape))

    def test_raw_mosaic_is_refused(self, rgb):
        mosaic = np.zeros_like(rgb)
        for channel, row, column in ((0, 0, 0), (1, 0, 1), (1, 1, 0), (2, 1, 1)):
            mosaic[row::2, column::2, channel] = rgb[row::2, column::2, channel]
        assert "every other pixel is of another color" in complaint(mosaic)
        assert "every other pixel is of another color" in complaint(np.stack([mosaic.max(axis=2)] * 3, axis=2))

    def test_few_levels_of_brightness_are_no_mosaic(self, rgb):
        dithered = np.asarray(Image.fromarray(rgb).quantize(32).convert("RGB"))
        checkers = np.indices(rgb.shape[:2]).sum(axis=0)[..., np.newaxis] % 2
        ordered = ((rgb.astype(int) + 4 * checkers) // 8 * 8).clip(0, 255).astype(np.uint8)
        for few in (dithered, ordered):
            assert "every other pixel" not in str(complaint(few))

    def test_picture_that_goes_on_in_another_brightness_is_refused_as_damaged(self, rgb):
        damaged = rgb.copy()
        damaged[320:] = np.clip(damaged[320:].astype(int) - 40, 0, 255)
        error = find_implausibility(damaged)
        assert "at row 320 of 480 the picture changes its brightness" in str(error)
        assert not isinstance(error, FieldWronglySaved)  # the other fields may be well

    def test_field_of_two_half_fields_is_refused(self, rgb):
        assert "disorder" in complaint(np.concatenate([rgb[::2], rgb[1::2]]))

    def test_low_bytes_between_high_bytes_are_refused(self, rgb):
        low = np.random.default_rng(3).integers(0, 256, rgb.shape, dtype=np.uint8)
        assert "disorder" in complaint(np.stack([rgb, low], 2).reshape(rgb.shape[0], -1, 3))


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (gray, FieldWronglySaved),
        (lambda rgb: rgb[..., ::-1], FieldWronglySaved),
        (lambda rgb: 255 - rgb, FieldWronglySaved),
        (lambda rgb: np.concatenate([rgb[::2], rgb[1::2]]), FieldWronglySaved),
        (lambda rgb: with_channel(rgb, 0, 128), FieldWronglySaved),
        (lambda rgb: lit(rgb, brightness=0.2), FieldImplausible),
        (lambda rgb: np.concatenate([rgb[:400], np.full_like(rgb[400:], 128)]), FieldImplausible),
    ],
)
def test_only_what_other_fields_may_have_in_common_is_wrongly_saved(smear, change, kind):
    assert type(find_implausibility(change(smear))) is kind


def test_implausible_field_raises_an_error_that_callers_of_the_reader_catch(smear):
    with pytest.raises(FieldImplausible) as caught:
        check_plausibility(Field("f", gray(smear)))
    assert isinstance(caught.value, FieldUnreadable)
