"""WebP, JPEG 2000, AVIF and HEIC: read like the other formats, or refused like them."""

import io
import struct
from importlib.util import find_spec

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from wbctool.errors import FieldTooLarge, FieldUnreadable
from wbctool.imaging.reader import decode_rgb, header_megapixels, oriented_size

HEIC = pytest.param(
    "HEIF", {"quality": 90}, 3, marks=pytest.mark.skipif(not find_spec("pillow_heif"), reason="no HEIC")
)
# Pillow's name, its options, and by how much the mean of the pixels may differ.
WRITTEN = [
    pytest.param("WEBP", {"quality": 90}, 4, id="webp"),
    pytest.param("WEBP", {"lossless": True}, 0, id="lossless webp"),
    pytest.param("AVIF", {"quality": 90}, 4, id="avif"),
    pytest.param("JPEG2000", {}, 0, id="jp2"),
    pytest.param("JPEG2000", {"no_jp2": True}, 0, id="j2k"),
    pytest.param("JPEG2000", {"tile_size": (64, 64)}, 0, id="tiled jp2"),
    pytest.param("JPEG2000", {"quality_mode": "rates", "quality_layers": [20, 8]}, 4, id="lossy jp2"),
    HEIC,
]
every_format = pytest.mark.parametrize(("kind", "options", "tolerance"), WRITTEN)


@pytest.fixture
def picture(real_jpeg):
    return Image.open(real_jpeg).convert("RGB").resize((320, 240))


def saved(picture, kind, **options):
    if kind == "HEIF":
        __import__("pillow_heif").register_heif_opener()
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def assert_refused(content, words, **how):
    with pytest.raises(FieldUnreadable) as caught:
        decode_rgb(content, **how)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value).strip()


@every_format
def test_decode_rgb_whole_image_shows_its_pixels(picture, kind, options, tolerance):
    content = saved(picture, kind, **options)
    for behind in (b"", bytes(800), b"junk" * 50):
        rgb = decode_rgb(content + behind)
        assert rgb.shape == (240, 320, 3)
        assert np.abs(rgb.astype(int) - np.asarray(picture)).mean() <= tolerance
    assert header_megapixels(content) == pytest.approx(0.0768)


@every_format
@pytest.mark.parametrize("kept", [0.01, 0.3, 0.5, 0.9, 0.99, 1.0])
def test_decode_rgb_truncated_image_is_refused(picture, kind, options, tolerance, kept):
    content = saved(picture, kind, **options)
    assert_refused(content[: min(len(content) - 2, max(30, int(len(content) * kept)))], "incomplete or damaged")


@every_format
@pytest.mark.parametrize(("start", "length"), [(0.5, 600), (0.5, 2000), (0.9, 2000)])
def test_decode_rgb_hole_of_zeros_is_refused(picture, kind, options, tolerance, start, length):
    """A copy that was interrupted; no decoder of these formats minds."""
    content = saved(picture, kind, **options)
    hole = slice(int(len(content) * start), min(int(len(content) * start) + length, len(content)))
    damaged = content[: hole.start] + bytes(hole.stop - hole.start) + content[hole.stop :]
    assert_refused(damaged, "incomplete or damaged")


@every_format
def test_decode_rgb_above_the_limit_is_refused_before_decoding(picture, kind, options, tolerance):
    content = saved(picture, kind, **options)
    middle = len(content) // 2
    with pytest.raises(FieldTooLarge, match=r"320×240 pixels exceed the limit of 0\.05 megapixels"):
        decode_rgb(content[:middle] + bytes(1000) + content[middle + 1000 :], max_megapixels=0.05)


def test_decode_rgb_webp_with_a_huge_canvas_is_refused_before_memory_is_taken(picture):
    content = bytearray(
        saved(picture, "WEBP", icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    )
    content[24:30] = b"\xff\xff\x00" * 2
    with pytest.raises(FieldTooLarge, match="65536×65536"):
        decode_rgb(bytes(content))


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "JPEG2000"])
def test_decode_rgb_lays_transparency_over_white(picture, kind):
    rgba = picture.convert("RGBA")
    rgba.paste((0, 0, 0, 0), (0, 0, 160, 240))
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}, "JPEG2000": {}}[kind]
    rgb = decode_rgb(saved(rgba, kind, **options)).astype(int)
    assert np.abs(rgb[:, :150] - 255).max() <= 3
    assert np.abs(rgb[:, 170:] - np.asarray(picture)[:, 170:]).mean() < 3


@pytest.mark.parametrize("kind", ["AVIF", "JPEG2000"])
def test_decode_rgb_gray_image_is_refused(picture, kind):
    assert_refused(saved(picture.convert("L"), kind), "a gray image")


def test_decode_rgb_cmyk_jpeg2000_is_refused(picture):
    assert_refused(saved(picture.convert("CMYK"), "JPEG2000"), "CMYK")


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_decode_rgb_animation_is_refused(picture, kind):
    assert_refused(saved(picture, kind, save_all=True, append_images=[picture.rotate(180)]), "several images")


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_decode_rgb_turns_as_a_jpeg(picture, tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(picture, kind, exif=exif.tobytes(), quality=95)
    expected = decode_rgb(saved(picture, "JPEG", exif=exif.tobytes(), quality=95))
    rgb = decode_rgb(content)
    assert rgb.shape == expected.shape
    assert np.abs(rgb.astype(int) - expected).mean() < 4
    (tmp_path / "x").write_bytes(content)
    assert oriented_size(tmp_path / "x") == rgb.shape[1::-1]


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_decode_rgb_converts_an_embedded_profile(picture, kind):
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert_refused(saved(picture, kind, icc_profile=lab), "color profile")
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert np.array_equal(decode_rgb(saved(picture, kind, icc_profile=srgb)), decode_rgb(saved(picture, kind)))


@pytest.mark.parametrize(("primaries", "transfer"), [(9, 16), (9, 18), (1, 16), (12, 13)])
def test_decode_rgb_avif_of_high_dynamic_range_or_wide_gamut_is_refused(picture, primaries, transfer):
    content = saved(picture, "AVIF")
    start = content.index(b"nclx") + 4
    changed = content[:start] + struct.pack(">HH", primaries, transfer) + content[start + 4 :]
    assert_refused(changed, "high dynamic range or wide gamut")


@pytest.mark.parametrize("bits", [10, 12])
def test_decode_rgb_avif_of_more_bits_keeps_its_colors(picture, bits):
    deep = np.asarray(picture).astype(np.uint16) << (bits - 8)
    rgb = decode_rgb(imagecodecs.avif_encode(deep, level=95, bitspersample=bits))
    assert np.abs(rgb.astype(int) - np.asarray(picture)).mean() < 2


class TestJpeg2000:
    def test_every_tile_must_be_there(self, picture):
        content = saved(picture, "JPEG2000", tile_size=(64, 64), no_jp2=True)
        start = content.index(b"\xff\x90\0\x0a")
        end = start + struct.unpack_from(">I", content, start + 6)[0]
        assert_refused(content[:start] + content[end:], "1 of its 20 tiles")

    @pytest.mark.parametrize("bits", [10, 12, 16])
    def test_more_bits_are_scaled_by_what_the_file_says(self, picture, bits):
        deep = (np.asarray(picture).astype(np.uint16) * 257) >> (16 - bits)
        content = imagecodecs.jpeg2k_encode(deep, bitspersample=bits, codecformat="jp2", reversible=True, level=0)
        assert np.array_equal(decode_rgb(content), np.asarray(picture))

    def test_16_bits_of_which_the_lower_are_used_are_refused(self, picture):
        deep = (np.asarray(picture).astype(np.uint16) * 257) >> 4
        content = imagecodecs.jpeg2k_encode(deep, bitspersample=16, codecformat="jp2", reversible=True, level=0)
        assert_refused(content, "only the lower bits")

    def test_four_channels_of_unknown_meaning_are_refused(self, picture):
        assert_refused(saved(picture.convert("RGBA"), "JPEG2000", no_jp2=True), "4 channels")

    def test_luma_and_chroma_become_rgb(self, picture):
        ycc = np.asarray(picture.convert("YCbCr"))
        content = imagecodecs.jpeg2k_encode(
            ycc, colorspace="SYCC", codecformat="jp2", mct=False, reversible=True, level=0
        )
        assert np.abs(decode_rgb(content).astype(int) - np.asarray(picture)).mean() < 2

    def boxes(self, picture, header=b"", before=b"", color=None):
        """A JP2 with more boxes in its header or before it, or with another box of its colors."""
        content = saved(picture, "JPEG2000")
        start, colr = content.index(b"jp2h") - 4, content.index(b"colr") - 4
        new = content[start + 8 : colr] + (color or content[colr : colr + 15]) + header
        return content[:start] + before + struct.pack(">I4s", 8 + len(new), b"jp2h") + new + content[colr + 15 :]

    def box(self, kind, content):
        return struct.pack(">I4s", 8 + len(content), kind) + content

    def test_channels_in_another_order_are_put_right(self, picture):
        order = struct.pack(">H9H", 3, 0, 0, 3, 1, 0, 2, 2, 0, 1)
        rgb = decode_rgb(self.boxes(picture, header=self.box(b"cdef", order)))
        assert np.array_equal(rgb, np.asarray(picture)[..., ::-1])

    @pytest.mark.parametrize(
        ("enumerated", "words"), [(12, "CMYK"), (14, "CIELAB"), (17, "a gray image"), (21, "color space 21")]
    )
    def test_other_color_spaces_are_refused(self, picture, enumerated, words):
        color = self.box(b"colr", struct.pack(">BBBI", 1, 0, 0, enumerated))
        assert_refused(self.boxes(picture, color=color), words)

    def test_profile_is_converted(self, picture):
        for profile, words in (("sRGB", ""), ("LAB", "color profile")):
            icc = ImageCms.ImageCmsProfile(ImageCms.createProfile(profile)).tobytes()
            content = self.boxes(picture, color=self.box(b"colr", b"\2\0\0" + icc))
            if words:
                assert_refused(content, words)
            else:
                assert np.array_equal(decode_rgb(content), np.asarray(picture))

    def test_orientation_of_its_exif_is_applied(self, picture):
        exif = Image.Exif()
        exif[0x0112] = 6
        uuid = self.box(b"uuid", b"JpgTiffExif->JP2" + exif.tobytes())
        assert np.array_equal(decode_rgb(self.boxes(picture, before=uuid)), np.rot90(np.asarray(picture), -1))

    def test_several_codestreams_are_refused(self, picture):
        content = saved(picture, "JPEG2000")
        assert_refused(content + content[content.index(b"jp2c") - 4 :], "several images")


@pytest.mark.skipif(find_spec("pillow_heif") is not None, reason="pillow-heif is installed")
def test_decode_rgb_heic_without_its_decoder_says_what_to_install():
    assert_refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pip install pillow-heif")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"GIF89a" + b"x" * 30, "a GIF file"),
        (b"\xff\x0a" + b"x" * 30, "a JPEG XL file"),
        (b"%PDF-1.4 and so on", "a PDF file"),
        (b"the patient's notes", "a text file"),
        (b"PK\3\4\0\0", "not a JPEG, PNG, BMP, TIFF, WebP, JPEG 2000 or AVIF image; export it as one of those"),
    ],
)
def test_decode_rgb_other_content_is_named(content, words):
    assert_refused(content, words)
