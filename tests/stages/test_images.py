import io
import os
import struct
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from wbctool.errors import FieldTooLarge, FieldUnreadable
from wbctool.stages.images import is_image, read_field, shown_size


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
    refused(path)


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
    assert "not an image" in refused(path)


def test_a_format_of_another_kind(picture, tmp_path):
    path = tmp_path / "field.jpg"
    picture.save(path, "GIF")
    assert "not an image in one of the formats" in refused(path)


def test_a_missing_file(tmp_path):
    assert "cannot be read" in refused(tmp_path / "gone.jpg")


@pytest.mark.parametrize("mode", ["L", "LA", "1"])
def test_grey(picture, tmp_path, mode):
    path = tmp_path / "grey.png"
    picture.convert(mode).save(path)
    assert "grey" in refused(path)


def test_grey_palette(picture, tmp_path):
    path = tmp_path / "grey.png"
    picture.convert("L").convert("P").save(path)
    assert "grey" in refused(path)


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
    assert shown_size(path) == (width, height)
    assert (width > height) == (orientation < 5)


def test_a_header_of_more_megapixels_than_pillow_likes_is_read_in_a_fresh_process(tmp_path):
    """Two of them must not be decoded at once, and their results can be exported."""
    path = tmp_path / "large.bmp"
    Image.new("RGB", (1, 1)).save(path)
    header = bytearray(path.read_bytes())
    header[18:26] = struct.pack("<ii", 14_000, 14_000)
    path.write_bytes(header)
    code = (
        "import sys, pathlib; from wbctool.stages.images import megapixels, shown_size; p = pathlib.Path(sys.argv[1]); "
    )
    code += "print(megapixels(p.read_bytes()), *shown_size(p))"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["196.0", "14000", "14000"]


def test_a_bomb_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (20_000, 20_000)).save(path)
    assert path.stat().st_size < 100_000
    with pytest.raises(FieldTooLarge, match="20000×20000 pixels are more than the limit of 300"):
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
    with pytest.raises(FieldUnreadable, match="changed while it was read"):
        read_field(path)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_colour_is_read_unless_it_would_show_black(picture, tmp_path, suffix):
    rgb = np.asarray(picture)
    deep = rgb.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / f"x{suffix}"), deep[..., ::-1])
    assert np.array_equal(read_field(tmp_path / f"x{suffix}").rgb, rgb)
    cv2.imwrite(str(tmp_path / f"x{suffix}"), deep[..., ::-1] >> 4)
    with pytest.raises(FieldUnreadable, match="lower bits alone"):
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
