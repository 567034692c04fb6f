"""Reading a field: as what it shows, or refused by name.

Pillow and not OpenCV, because OpenCV fills the missing end of a truncated JPEG with grey and says nothing. JPEGs are
decoded by simplejpeg, the same pixels from the same libjpeg-turbo, because it also tells a hole in the middle.
"""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import ExifTags, Image, ImageOps
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from wbctool.errors import FieldTooLarge, FieldUnreadable
from wbctool.imaging.icc import in_srgb
from wbctool.imaging.integrity import keep_libtiff_quiet, refuse_incomplete_png, refuse_incomplete_tiff
from wbctool.types.cells import Field

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"})
MAX_MEGAPIXELS = 300.0
_MAX_BYTES_PER_PIXEL = 8  # four channels of 16 bits, uncompressed
_SMALLEST_PREALLOCATED = 4096  # bytes; smaller files are not copied in parts
_DEEP = re.compile(r"RGB[AX]?;16")  # in Pillow's words for how a file's pixels are packed
_DARKEST_WHITE = 32  # of 255; cameras of 12 bits reach 15
_FIRST_ON_ITS_SIDE = 5  # of EXIF's orientations 1 to 8
_FORMATS = ("JPEG", "PNG", "BMP", "TIFF")
_FIRST_BYTES = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|BM.{4}\0{4}|II[*+]\0|MM\0[*+]", re.DOTALL)
_COLOUR_MODES = frozenset({"RGB", "RGBA", "RGBX", "P", "PA"})

Image.MAX_IMAGE_PIXELS = None  # max_megapixels replaces Pillow's limit, which warns at 89 and fails at 179 megapixels


def is_image(path: Path) -> bool:
    """Whether a path names an image of a slide: a visible file with a known ending, in any case."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()


def read_field(path: Path, name: str | None = None, max_megapixels: float = MAX_MEGAPIXELS) -> Field:
    """Read one image.

    path: a JPEG, PNG, BMP or TIFF file. name: the field's name in results; the file's name if None.
    Returns a Field with (H, W, 3) uint8 RGB; EXIF orientation is applied, transparency is laid over white, and colours
    of another embedded profile become sRGB's.

    Raises FieldUnreadable for anything that would give missing pixels or wrong colours (truncated, damaged, grey,
    16-bit grey, CMYK, an unreadable profile, several frames, not an image), FieldTooLarge above ``max_megapixels``,
    MemoryError where memory is short.
    """
    data = read_image_bytes(path, max_megapixels)
    return Field(name=path.name if name is None else name, rgb=decode_rgb(data, max_megapixels))


def read_image_bytes(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> bytes:
    """A file's bytes, all of one moment.

    Raises FieldTooLarge where no image of ``max_megapixels`` is that large, else FieldUnreadable: also where the file
    changed meanwhile, as one does that is still being copied.
    """
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            if before.st_size > max_megapixels * 1e6 * _MAX_BYTES_PER_PIXEL + 1e6:
                raise FieldTooLarge(f"the file is larger than an image of {max_megapixels:g} megapixels can be")
            data = file.read()
            after = os.fstat(file.fileno())
    except OSError as error:
        raise FieldUnreadable(f"cannot be read: {error.strerror or error}") from error
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or len(data) != after.st_size:
        raise FieldUnreadable("changed while it was being read; is it still being copied? (see --settle)")
    return data


def decode_rgb(data: bytes, max_megapixels: float = MAX_MEGAPIXELS) -> np.ndarray:
    """Decode an image file's bytes to (H, W, 3) uint8 RGB; raises as :func:`read_field`."""
    if not data:
        raise FieldUnreadable("the file is empty")
    if len(data) > _SMALLEST_PREALLOCATED and not any(data[-len(data) // 4 :]):
        raise FieldUnreadable("the last quarter of the file is zeros: it was not copied completely")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _refuse_unfit(image, max_megapixels)
            return _decode(image, data)
    except (FieldUnreadable, MemoryError):
        raise
    except Exception as error:  # decoders raise whatever a broken file makes them stumble over
        raise FieldUnreadable(_cause(error, data)) from error


def megapixels(data: bytes) -> float:
    """What an image promises by its header; 0 where it is none."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            return image.width * image.height / 1e6
    except Exception:  # as above; whoever decodes it will say why
        return 0.0


def shown_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels of an image as :func:`read_field` turns it, from its header. Raises FieldUnreadable."""
    start = b""
    try:
        with path.open("rb") as file:
            start = file.read(16)
            with Image.open(file, formats=_FORMATS) as image:
                width, height = image.size
                turned_already = image.format == "TIFF"  # by Pillow, as soon as it is opened
                orientation = 1 if turned_already else image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception as error:  # as above
        raise FieldUnreadable(_cause(error, start)) from error
    return (height, width) if orientation >= _FIRST_ON_ITS_SIDE else (width, height)


def _decode(image: Image.Image, data: bytes) -> np.ndarray:
    rgb = _pixels(image, data)
    if "icc_profile" not in image.info:
        return rgb
    return in_srgb(rgb, image.info["icc_profile"])


def _pixels(image: Image.Image, data: bytes) -> np.ndarray:
    """(H, W, 3) uint8, in the colours of whatever profile the file has."""
    deep = _is_16_bit(image)  # before the next line, which loads a PNG
    turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    if image.format in {"JPEG", "MPO"} and image.mode == "RGB":
        rgb: np.ndarray = simplejpeg.decode_jpeg(data, "RGB", strict=True)
        if not turned:
            return rgb
    if isinstance(image, TiffImageFile):
        keep_libtiff_quiet()
        refuse_incomplete_tiff(image, data)
    image.load()
    if isinstance(image, PngImageFile):
        refuse_incomplete_png(image, data)
    rgb = _to_rgb(ImageOps.exif_transpose(image) if turned else image)
    if deep and rgb.max() < _DARKEST_WHITE:
        raise FieldUnreadable("a 16-bit image that uses only the lower bits and would appear black; export 8-bit RGB")
    return rgb


def _is_16_bit(image: Image.Image) -> bool:
    """Whether the file holds 16 bits a colour, of which Pillow keeps the upper eight. Before its pixels are loaded."""
    return any(_DEEP.search(str(tile[3])) for tile in getattr(image, "tile", ()))


def _refuse_unfit(image: Image.Image, max_megapixels: float) -> None:
    width, height = image.size
    if width * height > max_megapixels * 1e6:
        raise FieldTooLarge(f"{width}×{height} pixels exceed the limit of {max_megapixels:g} megapixels")
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a phone's JPEG: the first picture is the picture
        raise FieldUnreadable("the file holds several images (a stack or an animation); export one image per file")
    if image.mode.startswith("I") or image.mode == "F":
        raise FieldUnreadable("a 16-bit or floating-point grey image; export 8-bit RGB")
    if image.mode in {"1", "L", "LA", "La"}:
        raise FieldUnreadable("a grey image; stained cells are told apart by colour")
    if image.mode not in _COLOUR_MODES:
        raise FieldUnreadable(f"the colour mode {image.mode} cannot be rendered reliably; export 8-bit RGB")


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode in {"RGBA", "PA"} or "transparency" in image.info:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema()[1] == 0:
            raise FieldUnreadable("the image is completely transparent")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    rgb = np.asarray(image if image.mode == "RGB" else image.convert("RGB"), dtype=np.uint8)
    if image.mode == "P" and _is_grey(rgb):
        raise FieldUnreadable("a grey image; stained cells are told apart by colour")
    return np.ascontiguousarray(rgb)


def _is_grey(rgb: np.ndarray) -> bool:
    return bool((rgb[..., 0] == rgb[..., 1]).all() and (rgb[..., 1] == rgb[..., 2]).all())


def _cause(error: Exception, start: bytes) -> str:
    """Words for the lab. start: the file's first bytes, at least."""
    text = str(error) or type(error).__name__
    if "cannot identify image file" in text:
        if _FIRST_BYTES.match(start):  # of one of those formats
            return "the image is incomplete or damaged, or of an unusual kind; if it opens elsewhere, export 8-bit RGB"
        return "not a JPEG, PNG, BMP or TIFF image"
    if any(word in text for word in ("truncated", "broken data stream", "remature end")):
        return f"the image is incomplete or damaged ({text})"
    return f"the image is damaged ({text})"
