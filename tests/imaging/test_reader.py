import io
import os
import re
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, TiffImagePlugin

from wbctool.errors import FieldTooLarge, FieldUnreadable
from wbctool.imaging.formats import is_image
from wbctool.imaging.reader import oriented_size, read_field


@pytest.fixture
def picture(real_jpeg):
    """A real field, decoded."""
    return Image.open(real_jpeg).convert("RGB")


def refused(path, **how):
    with pytest.raises(FieldUnreadable) as caught:
        read_field(path, **how)
    return str(caught.value)


def test_a_real_field_is_rgb(real_jpeg, picture):
    field = read_field(real_jpeg)
    assert field.name == real_jpeg.name
    assert field.rgb.shape == (480, 640, 3)
    assert field.rgb.dtype == np.uint8
    assert np.array_equal(field.rgb, np.asarray(picture))


@pytest.mark.parametrize("missing", [1, 100, 700, 5000])
def test_a_truncated_jpeg_is_refused(real_jpeg, tmp_path, missing):
    path = tmp_path / "short.jpg"
    path.write_bytes(real_jpeg.read_bytes()[:-missing])
    assert "incomplete or damaged" in refused(path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_other_truncated_formats_are_refused(picture, tmp_path, suffix):
    buffer = io.BytesIO()
    picture.save(buffer, {".png": "PNG", ".tif": "TIFF", ".bmp": "BMP"}[suffix])
    path = tmp_path / f"short{suffix}"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    assert "the image is incomplete or damaged" in refused(path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_lossless_formats_keep_every_pixel(picture, tmp_path, suffix):
    path = tmp_path / f"field{suffix}"
    picture.save(path)
    assert np.array_equal(read_field(path).rgb, np.asarray(picture))


def test_empty(tmp_path):
    path = tmp_path / "empty.jpg"
    path.touch()
    assert refused(path) == "the file is empty"


def test_text_named_jpg(tmp_path):
    path = tmp_path / "notes.jpg"
    path.write_text("the patient's notes")
    assert "not a JPEG, PNG, BMP, TIFF, WebP, JPEG 2000 or AVIF image" in refused(path)


def test_a_format_of_another_kind(picture, tmp_path):
    path = tmp_path / "field.jpg"
    picture.save(path, "GIF")
    assert "not a JPEG, PNG, BMP, TIFF, WebP, JPEG 2000 or AVIF image" in refused(path)


def test_a_missing_file(tmp_path):
    assert "cannot be read" in refused(tmp_path / "gone.jpg")


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey(picture, tmp_path, mode):
    path = tmp_path / "gray.png"
    picture.convert(mode).save(path)
    assert "gray" in refused(path)


def test_grey_palette(picture, tmp_path):
    path = tmp_path / "gray.png"
    picture.convert("L").convert("P").save(path)
    assert "gray" in refused(path)


def test_sixteen_bit(tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).save(path)
    assert "16-bit" in refused(path)


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk(picture, tmp_path, suffix):
    path = tmp_path / f"print{suffix}"
    picture.convert("CMYK").save(path)
    assert "CMYK" in refused(path)


def test_a_stack(picture, tmp_path):
    path = tmp_path / "stack.tif"
    picture.save(path, save_all=True, append_images=[picture])
    assert "several images" in refused(path)


def test_an_animation(picture, tmp_path):
    path = tmp_path / "moving.png"
    picture.save(path, save_all=True, append_images=[picture.rotate(180)])
    assert "several images" in refused(path)


def test_a_colour_palette_shows_its_colours(tmp_path):
    path = tmp_path / "palette.png"
    image = Image.new("P", (4, 2))
    image.putpalette([200, 10, 30, 0, 90, 250])
    image.putdata([0, 1, 0, 1, 1, 0, 1, 0])
    image.save(path)
    rgb = read_field(path).rgb
    assert rgb[0].tolist() == [[200, 10, 30], [0, 90, 250]] * 2
    assert rgb[1].tolist() == [[0, 90, 250], [200, 10, 30]] * 2


def test_alpha_lies_over_white(tmp_path):
    path = tmp_path / "alpha.png"
    image = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    image.putpixel((1, 0), (200, 0, 0, 0))
    image.save(path)
    assert read_field(path).rgb.tolist() == [[[200, 0, 0], [255, 255, 255]]]


def test_exif_orientation_is_applied(picture, tmp_path):
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # show turned by 90 degrees clockwise
    picture.save(path, exif=exif)
    assert np.array_equal(read_field(path).rgb, np.rot90(np.asarray(picture), -1))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_shown_is_that_of_the_picture_that_is_read(picture, tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"turned{suffix}"
    picture.resize((60, 40)).save(path, exif=exif)
    height, width = read_field(path).rgb.shape[:2]
    assert oriented_size(path) == (width, height)
    assert (width > height) == (orientation < 5)


def test_a_header_of_more_megapixels_than_pillow_likes_is_read_in_a_fresh_process(tmp_path):
    """Two of them must not be decoded at once, and their results can be exported."""
    path = tmp_path / "large.bmp"
    Image.new("RGB", (1, 1)).save(path)
    header = bytearray(path.read_bytes())
    header[18:26] = struct.pack("<ii", 14_000, 14_000)
    path.write_bytes(header)
    code = "import sys, pathlib; from wbctool.imaging.reader import header_megapixels, oriented_size; "
    code += "p = pathlib.Path(sys.argv[1]); print(header_megapixels(p.read_bytes()), *oriented_size(p))"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["196.0", "14000", "14000"]


def test_a_bomb_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(FieldTooLarge, match="20000×20000 pixels exceed the limit of 300"):
        read_field(path)


def test_a_file_that_grows_while_it_is_read(real_jpeg, tmp_path, monkeypatch):
    path = tmp_path / "f.jpg"
    path.write_bytes(real_jpeg.read_bytes())
    status = os.fstat

    def look_and_append(descriptor):
        found = status(descriptor)
        with path.open("ab") as copy:
            copy.write(b"more")
        return found

    monkeypatch.setattr(os, "fstat", look_and_append)
    with pytest.raises(FieldUnreadable, match="changed while it was being read"):
        read_field(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_colour_is_read_unless_it_would_show_black(picture, tmp_path, suffix):
    rgb = np.asarray(picture)
    deep = rgb.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / f"x{suffix}"), deep[..., ::-1])
    assert np.array_equal(read_field(tmp_path / f"x{suffix}").rgb, rgb)
    cv2.imwrite(str(tmp_path / f"x{suffix}"), deep[..., ::-1] >> 4)
    with pytest.raises(FieldUnreadable, match="only the lower bits"):
        read_field(tmp_path / f"x{suffix}")


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "huge.tif"
    with path.open("wb") as file:
        file.truncate(3_000_000_000)  # a hole: it takes no room
    with pytest.raises(FieldTooLarge, match="the file is larger"):
        read_field(path)


def test_what_an_image_is(tmp_path, real_jpeg):
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / ".hidden.jpg").write_bytes(real_jpeg.read_bytes())
    (tmp_path / "A.TIFF").touch()
    (tmp_path / "notes.txt").touch()
    assert [p.name for p in sorted(tmp_path.iterdir()) if is_image(p)] == ["A.TIFF"]


def saved(picture, kind, **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def strips(content):
    """(offset, length) of each strip of a TIFF."""
    tags = Image.open(io.BytesIO(content)).tag_v2
    return list(zip(tags[TiffImagePlugin.STRIPOFFSETS], tags[TiffImagePlugin.STRIPBYTECOUNTS], strict=True))


def overwritten(content, start, new):
    return content[:start] + new + content[start + len(new) :]


def read(tmp_path, content, name="field.tif"):
    path = tmp_path / name
    path.write_bytes(content)
    return read_field(path).rgb


def refusal(tmp_path, content, name="field.tif"):
    path = tmp_path / name
    path.write_bytes(content)
    return refused(path)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize(
    "compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "lzma", "zstd", "jpeg"]
)
def test_whole_tiffs_are_read_whatever_their_compression(picture, tmp_path, compression, mode, big):
    content = saved(picture.convert(mode), "TIFF", compression=compression, big_tiff=big)
    expected = Image.open(io.BytesIO(content)).convert("RGB") if compression == "jpeg" else picture
    assert np.array_equal(read(tmp_path, content), np.asarray(expected))


@pytest.mark.parametrize("compression", [1, 5, 8, 32773, 32946])
def test_whole_tiffs_of_opencv_are_read(picture, tmp_path, compression):
    rgb = np.asarray(picture)
    cv2.imwrite(str(tmp_path / "field.tif"), rgb[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, compression])
    assert np.array_equal(read_field(tmp_path / "field.tif").rgb, rgb)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("damage", [bytes(2000), np.random.default_rng(0).bytes(500)], ids=["zeros", "noise"])
@pytest.mark.parametrize("compression", ["jpeg", "tiff_adobe_deflate", "tiff_deflate", "tiff_lzw"])
def test_a_damaged_strip_is_refused(picture, tmp_path, compression, damage, big):
    content = saved(picture, "TIFF", compression=compression, big_tiff=big)
    offset, length = strips(content)[0]
    assert "damaged" in refusal(tmp_path, overwritten(content, offset + length // 2, damage))


def test_a_deflate_strip_without_its_end_is_refused(picture, tmp_path):
    length = strips(saved(picture, "TIFF", compression="tiff_adobe_deflate"))[0][1]
    content = saved(picture, "TIFF", compression="tiff_adobe_deflate")
    table = struct.pack("<I", length)
    assert content.count(table) == 1
    changed = content.replace(table, struct.pack("<I", length - 4))  # without its check sum, which libtiff never reads
    assert "incomplete or damaged" in refusal(tmp_path, changed)


def tiff(content, **tags):
    """An uncompressed TIFF as few programs write it: its directory comes last. tags: what differs from two strips."""
    numbers = {
        "width": (256, [640]),
        "height": (257, [480]),
        "bits": (258, [8, 8, 8]),
        "compression": (259, [1]),
        "photometric": (262, [2]),
        "offsets": (273, [8, 8 + 640 * 240 * 3]),
        "samples": (277, [3]),
        "rows": (278, [240]),
        "lengths": (279, [640 * 240 * 3] * 2),
    }
    entries = dict(value for name, value in (numbers | tags).items() if value)
    start = 8 + len(content)
    behind = start + 2 + 12 * len(entries) + 4
    directory, values = struct.pack("<H", len(entries)), b""
    for tag, listed in sorted(entries.items()):
        short = max(listed) < 2**16
        packed = struct.pack(f"<{len(listed)}{'H' if short else 'I'}", *listed).ljust(4, b"\0")
        directory += struct.pack("<HHI", tag, 3 if short else 4, len(listed))
        directory += packed if len(packed) == 4 else struct.pack("<I", behind + len(values))
        values += packed if len(packed) > 4 else b""
    return struct.pack("<2sHI", b"II", 42, start) + content + directory + bytes(4) + values


STRIP, TILE, BAND = 640 * 240 * 3, 320 * 240 * 3, 640 * 480
TILES = [8, 8 + TILE, 8 + 2 * TILE, 8 + 3 * TILE]


def tiles(offsets, lengths):
    return {
        "offsets": None,
        "lengths": None,
        "rows": None,
        "tile_width": (322, [320]),
        "tile_rows": (323, [240]),
        "tile_offsets": (324, offsets),
        "tile_lengths": (325, lengths),
    }


def test_whole_tables_are_read(picture, tmp_path):
    rgb = np.asarray(picture)
    cut = b"".join(rgb[y : y + 240, x : x + 320].tobytes() for y in (0, 240) for x in (0, 320))
    bands = {"planar": (284, [2]), "rows": (278, [480]), "lengths": (279, [BAND] * 3)}
    bands["offsets"] = (273, [8, 8 + BAND, 8 + 2 * BAND])
    for content in (
        tiff(rgb.tobytes()),
        tiff(rgb.tobytes(), lengths=None),
        tiff(rgb.tobytes(), lengths=(279, [STRIP, 2 * STRIP])),
        tiff(cut, **tiles(TILES, [TILE] * 4)),
        tiff(rgb.transpose(2, 0, 1).tobytes(), **bands),
    ):
        assert np.array_equal(read(tmp_path, content), rgb)


@pytest.mark.parametrize(
    "changes",
    [
        {"offsets": (273, [8]), "lengths": (279, [STRIP])},
        {"offsets": (273, [8, 0]), "lengths": (279, [STRIP, 0])},
        {"lengths": (279, [STRIP, 0])},
        {"lengths": (279, [STRIP, STRIP - 1])},
        {"offsets": (273, [8, 8 + STRIP + 1000])},
        {"height": (257, [720])},
        {"offsets": None},
        tiles(TILES[:3], [TILE] * 3),
        tiles([*TILES[:3], 0], [TILE] * 3 + [0]),
        {"planar": (284, [2])},
    ],
    ids=[
        "a strip is missing",
        "a strip is sparse",
        "a strip is empty",
        "a strip is short",
        "a strip ends behind the file",
        "more rows than strips",
        "no strips",
        "a tile is missing",
        "a tile is sparse",
        "two bands are missing",
    ],
)
def test_a_table_with_gaps_is_refused(picture, tmp_path, changes):
    content = tiff(np.asarray(picture).tobytes(), **changes)
    assert "the image is incomplete or damaged" in refusal(tmp_path, content)


@pytest.mark.parametrize("compression", [8, 32946])
def test_a_deflate_strip_with_a_wrong_check_sum_is_refused(picture, tmp_path, compression):
    """Where a damaged strip goes on behind its last pixel, libtiff stops there and never comes to the check sum."""
    pixels = np.asarray(picture).tobytes()
    one = {"compression": (259, [compression]), "rows": (278, [480]), "offsets": (273, [8])}
    for behind in (b"", bytes(1000)):
        packed = zlib.compress(pixels + behind)
        whole = tiff(packed, **one, lengths=(279, [len(packed)]))
        assert np.array_equal(read(tmp_path, whole), np.asarray(picture))
        assert "incomplete or damaged" in refusal(tmp_path, overwritten(whole, 8 + len(packed) - 4, b"else"))


def jpeg_strip(picture):
    """A TIFF of 480 rows in one JPEG strip: the picture's."""
    jpeg = saved(picture, "JPEG", quality=95)
    one = {"compression": (259, [7]), "photometric": (262, [6]), "rows": (278, [480]), "subsampling": (530, [2, 2])}
    return tiff(jpeg, **one, offsets=(273, [8]), lengths=(279, [len(jpeg)]))


def test_a_jpeg_strip_of_fewer_rows_is_refused(picture, tmp_path):
    assert np.abs(read(tmp_path, jpeg_strip(picture)).astype(int) - np.asarray(picture)).mean() < 3
    short = jpeg_strip(picture.crop((0, 0, 640, 470)))
    assert "a strip or tile of 640×480 pixels holds 640×470" in refusal(tmp_path, short)


def test_libtiff_writes_nothing_to_the_terminal(picture, tmp_path, capfd):
    content = saved(picture, "TIFF", compression="tiff_lzw")
    offset, length = strips(content)[0]
    assert "damaged" in refusal(tmp_path, overwritten(content, offset + length // 2, bytes(2000)))
    assert capfd.readouterr() == ("", "")


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png(rgb, missing=0, interlaced=False):
    """A PNG whose stream of pixels ends a number of rows early, in a valid way."""
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    rows = [row for x, y, right, down in passes for row in rgb[y::down, x::right] if len(row)]
    pixels = b"".join(b"\0" + row.tobytes() for row in rows[: len(rows) - missing])
    header = struct.pack(">IIBBBBB", rgb.shape[1], rgb.shape[0], 8, 2, 0, 0, interlaced)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(pixels)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("shape", [(480, 640), (33, 17), (5, 4), (3, 1), (2, 9)])
def test_a_png_that_ends_early_is_refused(picture, tmp_path, shape, interlaced):
    rgb = np.asarray(picture)[: shape[0], : shape[1]]
    assert np.array_equal(read(tmp_path, png(rgb, 0, interlaced), "whole.png"), rgb)
    for missing in (1, shape[0] // 2, shape[0]):
        assert "incomplete or damaged" in refusal(tmp_path, png(rgb, missing, interlaced), "short.png")


def test_a_whole_png_with_a_black_last_row_is_read(picture, tmp_path):
    rgb = np.array(picture)
    rgb[-1] = 0
    assert np.array_equal(read(tmp_path, png(rgb), "black.png"), rgb)


@pytest.mark.parametrize("mode", ["P", "RGBA"])
def test_a_whole_png_whose_last_row_is_of_zeros_is_read_in_other_modes(picture, tmp_path, mode):
    image = picture.convert("RGB").quantize(64) if mode == "P" else picture.convert(mode)
    image.paste(0 if mode == "P" else (0, 0, 0, 0), (0, 470, 640, 480))
    assert read(tmp_path, saved(image, "PNG"), "zeros.png").shape == (480, 640, 3)


def test_a_png_with_a_damaged_header_is_called_damaged(picture, tmp_path):
    content = saved(picture, "PNG")
    path = tmp_path / "field.png"
    path.write_bytes(overwritten(content, 29, bytes(4)))  # the header's check sum
    assert refused(path).startswith("the image is incomplete or damaged")
    with pytest.raises(FieldUnreadable, match="the image is incomplete or damaged"):
        oriented_size(path)


SRGB_PRIMARIES = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
ADOBE_PRIMARIES = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))


def profile(primaries, gamma):
    """An ICC profile of a screen, version 2.4. primaries: XYZ of red, green and blue under D50."""

    def fixed(*numbers):
        return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)

    white = fixed(0.9642, 1, 0.8249)
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, round(gamma * 256)) + bytes(2)
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", 5) + b"test\0" + bytes(78 + 1),
        b"cprt": b"text" + bytes(8),
        b"wtpt": b"XYZ " + bytes(4) + white,
    }
    for letter, primary in zip(b"rgb", primaries, strict=True):
        tags[bytes([letter]) + b"XYZ"] = b"XYZ " + bytes(4) + fixed(*primary)
        tags[bytes([letter]) + b"TRC"] = curve
    table, values = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(values), len(value))
        values += value
    header = struct.pack(">4xI4s4s4s12x4s28x", 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    # the profile connection space's white comes last in the header, behind the intent
    header = (header[:4] + b"lcms" + header[4:])[:68] + white
    header = header.ljust(128, b"\0")
    return struct.pack(">I", 128 + len(table) + len(values)) + header[4:] + table + values


def in_profile(picture, icc):
    source, target = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(icc))
    return ImageCms.profileToProfile(picture, source, target)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_colours_of_another_profile_become_srgb(picture, tmp_path, kind):
    icc = profile(ADOBE_PRIMARIES, 2.2)
    stored = in_profile(picture, icc)
    options = {"quality": 98, "subsampling": 0} if kind == "JPEG" else {}
    actual = read(tmp_path, saved(stored, kind, icc_profile=icc, **options))
    assert np.abs(actual.astype(int) - np.asarray(picture)).mean() < 1
    assert np.abs(np.asarray(stored).astype(int) - np.asarray(picture)).mean() > 2


def test_a_linear_profile_by_hand(tmp_path):
    """A light of 55/255 is sRGB's 1.055 × 0.2157^(1/2.4) - 0.055 = 0.5017, so 128 of 255; black and white stay."""
    image = Image.fromarray(np.array([[[55, 55, 55], [0, 0, 0], [255, 255, 255]]], dtype=np.uint8))
    rgb = read(tmp_path, saved(image, "PNG", icc_profile=profile(SRGB_PRIMARIES, 1.0)), "linear.png")
    assert np.abs(rgb.astype(int) - [[[128] * 3, [0] * 3, [255] * 3]]).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_an_srgb_profile_changes_no_byte(picture, tmp_path, kind):
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    with_profile, without = saved(picture, kind, icc_profile=icc), saved(picture, kind)
    assert len(with_profile) > len(without)
    assert np.array_equal(read(tmp_path, with_profile), read(tmp_path, without))


def test_colours_are_converted_in_every_part_of_a_large_picture(picture, tmp_path):
    tall = Image.new("RGB", (8, 600), (200, 30, 90))
    rgb = read(tmp_path, saved(tall, "PNG", icc_profile=profile(ADOBE_PRIMARIES, 2.2)), "tall.png")
    assert rgb.shape == (600, 8, 3)
    assert (rgb == rgb[0, 0]).all()
    assert rgb[0, 0, 0] > 210


@pytest.mark.parametrize(
    "icc",
    [
        b"no profile",
        profile(ADOBE_PRIMARIES, 2.2)[:-40],
        profile(ADOBE_PRIMARIES, 2.2).replace(b"RGB ", b"GRAY"),
        profile(ADOBE_PRIMARIES, 2.2).replace(b"RGB ", b"CMYK"),
    ],
    ids=["text", "cut", "gray", "ink"],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG"])
def test_a_profile_that_cannot_be_used_is_refused(picture, tmp_path, icc, kind):
    assert "the embedded color profile cannot be read" in refusal(tmp_path, saved(picture, kind, icc_profile=icc))


def test_a_profile_in_several_parts_of_a_jpeg(picture, tmp_path):
    icc = profile(ADOBE_PRIMARIES, 2.2)
    one = read(tmp_path, saved(picture, "JPEG", icc_profile=icc), "one.jpg")
    two = saved(picture, "JPEG", icc_profile=icc + bytes(100_000))
    assert two.count(b"ICC_PROFILE") == 2
    assert np.array_equal(read(tmp_path, two, "two.jpg"), one)
    start = two.index(b"ICC_PROFILE\0\2") - 4
    end = start + 2 + struct.unpack(">H", two[start + 2 : start + 4])[0]
    assert "the embedded color profile cannot be read" in refusal(tmp_path, two[:start] + two[end:], "half.jpg")


def test_a_profile_that_cannot_be_unpacked_is_refused(picture, tmp_path):
    chunk = b"iCCP" + b"Adobe\0\0" + b"not packed"
    chunk = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    content = saved(picture, "PNG")
    content = content[:33] + chunk + content[33:]  # behind the header
    assert "the embedded color profile cannot be read" in refusal(tmp_path, content, "field.png")


def jpeg_segments(content):
    """Where each header segment of a JPEG starts, the start of the scan among them."""
    position, starts = 2, []
    while content[position + 1] != 0xDA:
        starts.append(position)
        position += 2 + struct.unpack(">H", content[position + 2 : position + 4])[0]
    return [*starts, position]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF", "WEBP", "AVIF"])
def test_read_field_ignores_zeros_behind_a_whole_image(picture, tmp_path, kind):
    """As frame grabbers with a buffer of a fixed size write them."""
    whole = saved(picture, kind)
    padded = whole + bytes(2 * len(whole))
    assert np.array_equal(read(tmp_path, padded, "padded"), read(tmp_path, whole, "whole"))
    for copied in (0.02, 0.5, 0.74):
        start = int(len(whole) * copied) // 512 * 512
        for behind in (0, 2 * len(whole)):
            assert "copy" in refusal(tmp_path, whole[:start] + bytes(len(whole) - start + behind), "cut")


def test_read_field_takes_an_empty_profile_of_a_tiff_for_none(picture, tmp_path):
    rgb = np.asarray(picture)
    for empty in (b"", b"\0"):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, rgb, photometric="rgb", extratags=[(34675, 7, len(empty), empty, True)])
        assert np.array_equal(read(tmp_path, buffer.getvalue(), "field.tif"), rgb)


@pytest.mark.parametrize("stray", [b"\0", b"\0" * 7, b"x", b"\xff", b"\xff\xff\xff", b"\0\xff"])
@pytest.mark.parametrize("progressive", [False, True])
def test_read_field_ignores_stray_bytes_between_the_headers_of_a_jpeg(picture, tmp_path, stray, progressive):
    whole = saved(picture.resize((160, 120)), "JPEG", quality=90, progressive=progressive)
    expected = read(tmp_path, whole, "whole.jpg")
    for start in jpeg_segments(whole)[1:]:
        actual = read(tmp_path, whole[:start] + stray + whole[start:], "stray.jpg")
        assert np.array_equal(actual, expected)


@pytest.mark.parametrize(("before", "behind"), [(0, 1), (0, 64), (1, 0), (64, 0), (2, 2)])
def test_read_field_ignores_zeros_around_the_first_marker_of_a_jpeg(picture, tmp_path, before, behind):
    whole = saved(picture, "JPEG")
    padded = bytes(before) + whole[:2] + bytes(behind) + whole[2:]
    assert np.array_equal(read(tmp_path, padded, "padded.jpg"), read(tmp_path, whole, "whole.jpg"))
    assert oriented_size(tmp_path / "padded.jpg") == (640, 480)


@pytest.mark.parametrize("zeros", [1, 2, 4, 100, 512])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restarts", [0, 8])
def test_read_field_ignores_zeros_before_the_end_mark_of_a_jpeg(picture, tmp_path, zeros, progressive, restarts):
    for side in range(120, 136):  # so that the data end differently
        image = picture.crop((240, 180, 400, 180 + side))
        whole = saved(image, "JPEG", quality=90, progressive=progressive, restart_marker_blocks=restarts)
        padded = whole[:-2] + bytes(zeros) + whole[-2:]
        assert np.array_equal(read(tmp_path, padded, "padded.jpg"), read(tmp_path, whole, "whole.jpg"))
        assert np.array_equal(read(tmp_path, padded + b"behind it", "more.jpg"), read(tmp_path, whole, "whole.jpg"))


@pytest.mark.parametrize("quality", [50, 75, 90, 99])
@pytest.mark.parametrize("hole", [1, 2, 3, 8, 50, 700, 5000])
def test_read_field_refuses_a_jpeg_whose_last_bytes_are_zeros(picture, tmp_path, hole, quality):
    """What looks like padding is a hole if it lies where pixels were."""
    whole = saved(picture, "JPEG", quality=quality)
    holed = whole[: -2 - hole] + bytes(hole) + whole[-2:]
    try:
        actual = read(tmp_path, holed, "hole.jpg")
    except FieldUnreadable:
        return
    assert hole <= 3  # too little for any decoder to see, and in the last row of blocks
    assert np.array_equal(actual[:-20], read(tmp_path, whole, "whole.jpg")[:-20])


@pytest.mark.parametrize("stray", [b"\0", b"\0\0\0\0", b"x"])
@pytest.mark.parametrize("missing", [1, 2, 3, 100, 700])
def test_read_field_refuses_a_truncated_jpeg_with_stray_bytes(real_jpeg, tmp_path, stray, missing):
    whole = real_jpeg.read_bytes()
    start = jpeg_segments(whole)[2]
    assert "incomplete or damaged" in refusal(tmp_path, whole[:start] + stray + whole[start:-missing], "short.jpg")


@pytest.mark.parametrize("padding", [b"\r\n" * 2, b"\n" * 7, b"  ", b"\xaa" * 64, b"\xff" * 9])
def test_read_field_ignores_padding_before_the_end_mark_of_a_jpeg(picture, tmp_path, padding):
    for side in range(120, 136):  # so that the data end differently
        whole = saved(picture.crop((240, 180, 400, 180 + side)), "JPEG", quality=90)
        padded = whole[:-2] + padding + whole[-2:]
        assert np.array_equal(read(tmp_path, padded, "padded.jpg"), read(tmp_path, whole, "whole.jpg"))
        assert "incomplete or damaged" in refusal(tmp_path, whole[:-40] + padding + whole[-2:], "short.jpg")


@pytest.mark.parametrize("zeros", [1, 2, 4, 16])
@pytest.mark.parametrize("flat", [False, True])
def test_read_field_ignores_zeros_before_the_restart_marks_of_a_jpeg(picture, tmp_path, zeros, flat):
    """A flat image's data often end in a zero themselves."""
    image = picture.resize((2, 240)).resize((320, 240), Image.Resampling.NEAREST) if flat else picture
    whole = saved(image, "JPEG", quality=90, restart_marker_blocks=10)
    expected = read(tmp_path, whole, "whole.jpg")
    padded = re.sub(rb"(?=\xff[\xd0-\xd7])", bytes(zeros), whole)
    assert np.array_equal(read(tmp_path, padded, "all.jpg"), expected)
    assert np.array_equal(read(tmp_path, padded[:-2] + bytes(9) + padded[-2:], "end.jpg"), expected)
    mark = whole.index(b"\xff\xd3")
    if not flat and zeros > 1:
        one = whole[:mark] + bytes(zeros) + whole[mark:]
        assert np.array_equal(read(tmp_path, one, "one.jpg"), expected)
        hole = padded[: mark - 20] + bytes(20) + padded[mark:]
        assert "incomplete or damaged" in refusal(tmp_path, hole, "hole.jpg")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize(
    ("marker", "content"),
    [
        (0xE0, b"JFIF\0\x4d\x4d\0\0\1\0\1\0\0"),
        (0xE0, b"JFIF\0"),
        (0xE0, b"JFIF\0\1"),
        (0xE2, b"MPF\0"),
        (0xED, b"Photoshop 3.0\x008BIM\3"),
        (0xEE, b"Adobe"),
        (0xFE, b""),
    ],
)
def test_read_field_ignores_broken_segments_of_applications_in_a_jpeg(picture, tmp_path, marker, content, progressive):
    whole = saved(picture, "JPEG", progressive=progressive)
    segment = bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content
    for rest in (whole[2:], whole[20:]):  # with a JFIF segment and without
        actual = read(tmp_path, whole[:2] + segment + rest, "field.jpg")
        assert np.array_equal(actual, read(tmp_path, whole, "whole.jpg"))
        assert oriented_size(tmp_path / "field.jpg") == (640, 480)


@pytest.mark.parametrize("content", [b"", b"\1", b"\3\2" + bytes(100), b"\1\1" + bytes(200)])
def test_read_field_refuses_a_broken_profile_of_a_jpeg_by_name(picture, tmp_path, content):
    content = b"ICC_PROFILE\0" + content
    segment = b"\xff\xe2" + struct.pack(">H", len(content) + 2) + content
    whole = saved(picture, "JPEG")
    assert "color profile cannot be read" in refusal(tmp_path, whole[:2] + segment + whole[2:], "field.jpg")


@pytest.mark.parametrize("jfif", [False, True])
def test_read_field_of_a_jpeg_of_rgb_agrees_with_pillow(picture, tmp_path, jfif):
    """A color space that an Adobe segment names, or the components' names, if no JFIF segment contradicts."""
    content = saved(picture, "JPEG", keep_rgb=True, quality=95)
    adobe = b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\0"
    plain = content.replace(adobe, b"")
    head = b"\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" if jfif else b""
    for one in (content, plain, plain[:2] + adobe + plain[2:]):
        one = one[:2] + head + one[2:]
        with Image.open(io.BytesIO(one)) as image:
            expected = np.asarray(image.convert("RGB")).astype(int)
        assert np.abs(read(tmp_path, one, "field.jpg") - expected).max() <= 3


def test_read_field_ignores_a_broken_exif_of_a_jpeg(picture, tmp_path):
    for exif in (b"Exif\0\0junk", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + bytes(30)):
        content = saved(picture, "JPEG")
        segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
        assert np.array_equal(read(tmp_path, content[:2] + segment + content[2:]), read(tmp_path, content))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_read_field_turns_as_pillow_does(picture, tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved(picture.resize((60, 40)), kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert np.array_equal(read(tmp_path, content), np.asarray(expected))


def png_chunk(kind, content, check=None):
    check = zlib.crc32(kind + content) if check is None else check
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)


METADATA = {
    "malformed eXIf": png_chunk(b"eXIf", b"junk"),
    "empty eXIf": png_chunk(b"eXIf", b""),
    "eXIf with a wrong check sum": png_chunk(b"eXIf", b"II*\0\x08\0\0\0", 7),
    "a long packed text": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * 3_000_000)),
    "a bomb of a text": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(70_000_000))),
    "a long text": png_chunk(b"tEXt", b"Comment\0" + b"x" * 10_000_000),
    "long international texts": png_chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(b"x" * 3_000_000)) * 30,
    "a text with a wrong check sum": png_chunk(b"tEXt", b"Comment\0x", 7),
    "a text that cannot be unpacked": png_chunk(b"zTXt", b"Comment\0\0junk"),
    "a short gAMA": png_chunk(b"gAMA", b"1"),
    "a short cHRM": png_chunk(b"cHRM", b"1"),
    "a short pHYs": png_chunk(b"pHYs", b"1"),
    "an unknown chunk": png_chunk(b"prVt", b"1", 7),
}


FRAME = struct.pack(">5I2H2B", 0, 160, 120, 0, 0, 1, 10, 0, 0)
METADATA |= {
    "a short acTL": png_chunk(b"acTL", b"1"),
    "a short fcTL": png_chunk(b"fcTL", b"1"),
    "an animation of its one picture": png_chunk(b"acTL", struct.pack(">II", 1, 0)) + png_chunk(b"fcTL", FRAME),
    "an animation of five pictures that are not there": png_chunk(b"acTL", struct.pack(">II", 5, 0)),
    "very long metadata": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"<a>" * 27_000_000),
}


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_read_field_ignores_metadata_of_a_png(picture, tmp_path, capfd, name, mode):
    small = picture.resize((160, 120))
    image = small.quantize(64) if mode == "P" else small
    content = saved(image, "PNG")
    for start in (33, len(content) - 12):  # behind the header, before the end
        actual = read(tmp_path, content[:start] + METADATA[name] + content[start:], "field.png")
        assert np.array_equal(actual, np.asarray(image.convert("RGB")))
        assert oriented_size(tmp_path / "field.png") == (160, 120)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("content", [b"\1\2\3" * 10, b"\1\2\3\4", b""])
def test_read_field_ignores_the_palette_of_a_png_of_rgb(picture, tmp_path, capfd, content):
    png = saved(picture, "PNG")
    actual = read(tmp_path, png[:33] + png_chunk(b"PLTE", content) + png[33:], "field.png")
    assert np.array_equal(actual, np.asarray(picture))
    assert capfd.readouterr() == ("", "")


def test_read_field_applies_a_large_profile_of_a_png(picture, tmp_path):
    icc = profile(ADOBE_PRIMARIES, 2.2)
    expected = read(tmp_path, saved(picture, "PNG", icc_profile=icc), "small.png")
    for padding in (2_000_000, 100_000_000):
        large = saved(picture, "PNG", icc_profile=icc + bytes(padding))
        assert np.array_equal(read(tmp_path, large, "large.png"), expected)


def test_read_field_turns_a_png_by_orientation_in_texts(picture, tmp_path):
    turned = np.rot90(np.asarray(picture), -1)
    exif = Image.Exif()
    exif[0x0112] = 6
    packed = exif.tobytes().hex()
    profile_text = f"\nexif\n{len(packed) // 2:8}\n{packed}\n".encode()
    xmp = b'<x:xmpmeta><rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    for chunk in (
        png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile_text)),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
    ):
        content = saved(picture, "PNG")
        assert np.array_equal(read(tmp_path, content[:33] + chunk + content[33:], "field.png"), turned)


def test_read_field_of_a_png_of_every_kind_agrees_with_pillow(picture, tmp_path):
    small = picture.resize((61, 43))
    color = tuple(small.getpixel((5, 5)))
    images = [(small.quantize(n), {"bits": bits}) for n, bits in ((2, 1), (4, 2), (16, 4), (256, 8))]
    images += [(small, {}), (small, {"transparency": color}), (small.convert("RGBA"), {})]
    images += [
        (small.quantize(16), {"transparency": 3}),
        (small.quantize(4), {"transparency": bytes([0, 99, 200, 255])}),
    ]
    for image, options in images:
        content = saved(image, "PNG", **options)
        rgba = Image.open(io.BytesIO(content)).convert("RGBA")
        expected = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
        assert np.array_equal(read(tmp_path, content, "field.png"), np.asarray(expected))


def test_read_field_of_a_16_bit_png_agrees_with_opencv(picture, tmp_path):
    deep = np.asarray(picture).astype(np.uint16) * 200 + 7
    for samples in (deep, np.dstack([deep, np.full(deep.shape[:2], 65535, np.uint16)])):
        order = [2, 1, 0, 3][: samples.shape[-1]]
        content = cv2.imencode(".png", samples[..., order])[1].tobytes()
        found = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)[..., 2::-1]
        assert np.array_equal(read(tmp_path, content, "field.png"), found >> 8)


@pytest.mark.parametrize("transparent", [True, False])
def test_read_field_of_a_32_bit_bmp_ignores_alpha_that_is_all_zero(picture, tmp_path, transparent):
    """As Windows programs write it, with a header of 40 or 108 bytes."""
    bgra = np.dstack([np.asarray(picture)[..., ::-1], np.full((480, 640), 0 if transparent else 255, np.uint8)])[::-1]
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    for size, compression, more in (
        (40, 0, b""),
        (108, 3, masks + b"BGRs" + bytes(48)),
        (124, 3, masks + b"BGRs" + bytes(64)),
    ):
        header = struct.pack("<IiiHHIIiiII", size, 640, 480, 1, 32, compression, bgra.size, 2835, 2835, 0, 0) + more
        content = struct.pack("<2sIII", b"BM", 14 + size + bgra.size, 0, 14 + size) + header + bgra.tobytes()
        assert np.array_equal(read(tmp_path, content, "field.bmp"), np.asarray(picture))


def bmp32(bgra):
    """A BMP of 32 bits with masks and alpha."""
    size = 108
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(size - 60)
    header = struct.pack("<IiiHHIIiiII", size, 640, 480, 1, 32, 3, bgra.size, 2835, 2835, 0, 0) + masks
    return struct.pack("<2sIII", b"BM", 14 + size + bgra.size, 0, 14 + size) + header + bgra[::-1].tobytes()


def test_read_field_ignores_the_alpha_of_a_bmp(picture, tmp_path):
    """Windows shows a BMP as opaque; where its programs draw a text or a scale bar, they leave another alpha."""
    alpha = np.zeros((480, 640), np.uint8)
    alpha[440:460, 500:620] = 255
    for opacity in (alpha, 255 - alpha, alpha // 85, np.full_like(alpha, 3)):
        content = bmp32(np.dstack([np.asarray(picture)[..., ::-1], opacity]))
        assert np.array_equal(read(tmp_path, content, "field.bmp"), np.asarray(picture))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_read_field_refuses_an_image_that_is_almost_transparent(picture, tmp_path, kind):
    for opacity in (3, 128):
        image = picture.copy()
        image.putalpha(opacity)
        content = saved(image, kind, **({"lossless": True} if kind == "WEBP" else {}))
        assert "almost completely transparent" in refusal(tmp_path, content, "field")
    image.putalpha(Image.fromarray(np.full((480, 640), 255, np.uint8)))
    assert np.array_equal(
        read(tmp_path, saved(image, kind, **({"lossless": True} if kind == "WEBP" else {})), "f"), np.asarray(picture)
    )


def test_read_field_names_an_unusual_kind_of_bmp(picture, tmp_path):
    content = bmp32(np.dstack([np.asarray(picture), np.zeros((480, 640), np.uint8)]))
    swapped = content[:54] + struct.pack("<IIII", 0xFF, 0xFF00FF00, 0xFF0000, 0) + content[70:]
    assert refusal(tmp_path, swapped, "field.bmp") == "an unusual kind of BMP (bitfields layout); export PNG"


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
@pytest.mark.parametrize(("first", "blocks"), [(20, 1), (20, 30), (200, 25), (210, None)])
def test_read_field_refuses_a_hole_of_disk_blocks_in_uncompressed_pixels(picture, tmp_path, kind, first, blocks):
    """As an interrupted copy leaves it; a black bar is none."""
    content = saved(picture, kind)
    end = len(content) if blocks is None else 4096 * (first + blocks)
    holed = content[: 4096 * first] + bytes(end - 4096 * first) + content[end:]
    assert "a part of it is zeros" in refusal(tmp_path, holed, "hole")


@pytest.mark.parametrize("kind", ["BMP", "TIFF"])
@pytest.mark.parametrize("width", [640, 1024, 4096])
def test_read_field_takes_bars_and_rings_for_no_hole(picture, tmp_path, kind, width):
    rgb = np.array(picture.resize((width, 480)))
    bars = rgb.copy()
    bars[:60] = bars[-60:] = 0
    sides = rgb.copy()
    sides[:, : width // 5] = sides[:, -width // 5 :] = 0
    ring = np.hypot(*np.mgrid[-240:240, -width / 2 : width / 2]) < 238
    for image in (bars, sides, rgb * ring[..., None].astype(np.uint8)):
        assert np.array_equal(read(tmp_path, saved(Image.fromarray(image), kind), "f"), image)


def with_chunks(content, *chunks):
    """A PNG with chunks behind its header."""
    inner = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return content[:33] + inner + content[33:]


@pytest.mark.parametrize("gamma", [1.0, 1 / 1.8, 0.2])
@pytest.mark.parametrize("bits", [8, 16])
def test_read_field_of_a_png_of_another_gamma_is_as_it_shows(picture, tmp_path, gamma, bits):
    light = (np.asarray(picture.resize((64, 48))) / 255) ** 2.2
    stored = np.round(light**gamma * (2**bits - 1)).astype(np.uint16 if bits == 16 else np.uint8)
    content = cv2.imencode(".png", stored[..., ::-1])[1].tobytes()
    chunk = (b"gAMA", struct.pack(">I", round(gamma * 100_000)))
    shown = read(tmp_path, with_chunks(content, chunk), "gamma.png").astype(int)
    difference = np.abs(shown - np.round(light ** (1 / 2.2) * 255))
    assert difference.max() <= 1 if bits == 16 else difference.mean() < 3
    plain = read(tmp_path, content, "plain.png")
    for chunks in ([(b"sRGB", b"\0"), chunk], [(b"gAMA", bytes(4))], [(b"gAMA", struct.pack(">I", 45455))]):
        assert np.array_equal(read(tmp_path, with_chunks(content, *chunks), "plain.png"), plain)


@pytest.mark.parametrize(
    ("points", "is_read"),
    [
        ((1, 13, 0, 1), True),
        ((9, 16, 0, 1), False),
        ((9, 18, 0, 1), False),
        ((12, 13, 0, 1), False),
        ((1, 13, 0, 0), False),
    ],
)
def test_read_field_refuses_a_png_of_high_dynamic_range_or_wide_gamut(picture, tmp_path, points, is_read):
    content = with_chunks(saved(picture, "PNG"), (b"cICP", bytes(points)))
    if is_read:
        assert np.array_equal(read(tmp_path, content, "f.png"), np.asarray(picture))
    else:
        assert "high dynamic range or wide gamut" in refusal(tmp_path, content, "f.png")


def test_read_field_names_the_chunk_of_an_unusual_png(picture, tmp_path):
    content = with_chunks(saved(picture, "PNG"), (b"CgBI", b"P\0 \2"))
    assert refusal(tmp_path, content, "f.png") == "an unusual kind of PNG, with a chunk CgBI; export a common one"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
def test_read_field_above_the_limit_is_refused_before_decoding(picture, tmp_path, kind):
    """Half of the file is enough to see that it is too large."""
    content = saved(picture, kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
    middle = len(content) // 2
    damaged = content[:middle] + bytes(1000) + content[middle + 1000 :]
    (tmp_path / "field").write_bytes(damaged)
    with pytest.raises(FieldTooLarge, match=r"640×480 pixels exceed the limit of 0\.3 megapixels"):
        read_field(tmp_path / "field", max_megapixels=0.3)
