"""Read TIFF images with tifffile and imagecodecs, or refuse by name what would give wrong colors or missing pixels."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wbctool.errors import FieldUnreadable
from wbctool.imaging.decoded import DEEP_GRAY, GRAY, SEVERAL_IMAGES, DecodedImage, ImageHeader, check_size
from wbctool.imaging.integrity import check_end_copied, check_jpeg_complete, check_no_block_hole, incomplete_error
from wbctool.types.arrays import Pixels

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage


_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEADER_BYTES = 8

_NONE, _LZW, _JPEG, _DEFLATE, _OLD_DEFLATE, _PACKBITS = 1, 5, 7, 8, 32946, 32773
_LZMA, _ZSTD, _WEBP = 34925, 50000, 50001
_COMPRESSIONS = frozenset({_NONE, _LZW, _JPEG, _DEFLATE, _OLD_DEFLATE, _PACKBITS, _LZMA, _ZSTD, _WEBP})
_PREDICTED = frozenset({_LZW, _DEFLATE, _OLD_DEFLATE, _LZMA, _ZSTD})  # those that libtiff un-predicts
_STRICT_ABOUT_EXCESS = frozenset({_DEFLATE, _OLD_DEFLATE, _PACKBITS, _ZSTD})
_UNPREDICTED = frozenset({_JPEG, _WEBP})  # those in which the predictor means nothing

_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _PALETTE, _CMYK, _YCBCR, _CIELAB = 0, 1, 2, 3, 5, 6, 8
_COLOR_SPACES = {_CMYK: "CMYK", _YCBCR: "YCbCr", _CIELAB: "CIELAB"}
_PLANAR = 2
_REDUCED_OR_MASK = 0b101  # bits of NewSubfileType: a thumbnail or a level of a pyramid, a transparency mask
_UNSIGNED = 1
_ASSOCIATED_ALPHA, _UNASSOCIATED_ALPHA = 1, 2
_NO_PROFILE = (None, b"", b"\0")  # some programs leave the tag empty
_MAX_SAMPLE_VALUE, _ORIENTATION, _ICC_PROFILE = 281, 274, 34675


def is_tiff(data: bytes) -> bool:
    """Return whether bytes begin as a TIFF or BigTIFF does."""
    return data.startswith(_SIGNATURES)


def read_tiff_header(data: bytes) -> ImageHeader:
    """Read a TIFF's size and orientation without decoding it; raises whatever a broken file makes tifffile raise."""
    with open_tiff(data) as file:
        page = find_main_page(file)
        return ImageHeader(page.imagewidth, page.imagelength, _orientation(page))


def decode_tiff(data: bytes, max_megapixels: float) -> DecodedImage:
    """Decode the one image of a TIFF.

    Args:
        data: The file's bytes.
        max_megapixels: Larger images are refused before they are decoded.

    Returns:
        The image as stored.

    Raises:
        FieldTooLarge: The image, or one of its tiles, has more pixels than allowed.
        FieldUnreadable: The file holds several images, lacks pixels, or has a layout that is not read.
        Exception: Whatever a broken file makes tifffile or imagecodecs raise.
    """
    with open_tiff(data) as file:
        page = find_main_page(file)
        _check_size(page, max_megapixels)
        _check_single(file, page)
        _check_layout(page)
        samples = _decode_samples(page, data)
        if page.planarconfig == _PLANAR and page.samplesperpixel > 1:
            samples = np.moveaxis(samples, 0, -1)
        bits = _bits_used(page, samples)
        if page.photometric == _PALETTE:
            samples, bits = _apply_palette(page, samples), 8
        extra = tuple(page.extrasamples)
        has_alpha = samples.shape[-1] == 4 and extra[:1] in {(_ASSOCIATED_ALPHA,), (_UNASSOCIATED_ALPHA,)}
        profile = page.tags.valueof(_ICC_PROFILE)
        return DecodedImage(
            samples=samples if has_alpha else samples[..., :3],
            bits=bits,
            premultiplied=extra[:1] == (_ASSOCIATED_ALPHA,),
            orientation=_orientation(page),
            icc_profile=None if profile in _NO_PROFILE else bytes(profile),
            is_palette=page.photometric == _PALETTE,
        )


@contextmanager
def open_tiff(data: bytes) -> Iterator[TiffFile]:
    """Open a TIFF in memory; raises whatever a broken file makes tifffile raise."""
    import tifffile  # late: only those who have TIFFs pay for it

    # It logs what it makes do with; what it cannot make do with it raises.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL + 1)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        yield file


def find_main_page(file: TiffFile) -> TiffPage:
    """Return the only page at full resolution; thumbnails, levels of a pyramid, and masks do not count."""
    pages: list[TiffPage] = []
    full: list[TiffPage] = []
    for page in _pages(file):
        pages.append(page)
        full += [] if page.subfiletype & _REDUCED_OR_MASK else [page]
        if len(full) > 1:
            raise FieldUnreadable(SEVERAL_IMAGES)
    if not pages:
        raise incomplete_error("its size is missing")
    if len(full) != 1 and len(pages) > 1:
        raise FieldUnreadable(SEVERAL_IMAGES)
    return full[0] if full else pages[0]


def _pages(file: TiffFile) -> Iterator[TiffPage]:
    """Yield the pages that hold an image, sub-IFDs among them. Whatever follows the first may be broken."""
    chain: Iterator[Any] = iter(file.pages)
    yield from _with_subpages(next(chain))
    with suppress(Exception):
        for page in chain:
            yield from _with_subpages(page)


def _with_subpages(page: Any) -> list[TiffPage]:
    """Return a page and its sub-IFDs, as far as they hold an image."""
    subpages: list[TiffPage] = []
    with suppress(Exception):  # they are no part of the page
        subpages = list(page.pages or ())
    return [one for one in (page, *subpages) if _has_size(one)]


def _has_size(page: TiffPage) -> bool:
    """Tell a page from a directory of something else; a broken tag may have a value of any type."""
    return all(isinstance(side, int) and side > 0 for side in (page.imagewidth, page.imagelength))


def _check_single(file: TiffFile, page: TiffPage) -> None:
    """Refuse a page that holds a whole stack, as ImageJ and tifffile can write it."""
    samples = math.prod(page.shape)
    if file.is_imagej or file.is_shaped:
        with suppress(Exception):  # a broken description touches no pixel
            samples = math.prod(file.series[0].shape)
    if page.imagedepth > 1 or samples > math.prod(page.shape):
        raise FieldUnreadable(SEVERAL_IMAGES)


def _check_size(page: TiffPage, max_megapixels: float) -> None:
    """Refuse an image, or a tile, above the limit."""
    sizes = [(page.imagewidth, page.imagelength)]
    if page.is_tiled:
        sizes.append((page.tilewidth, page.tilelength))
    for width, height in sizes:
        if width < 1 or height < 1:
            raise incomplete_error("the size of its tiles is missing")
        check_size(width, height, max_megapixels)


def _check_layout(page: TiffPage) -> None:
    """Refuse by name every layout whose colors are not known to come out right."""
    compression = int(page.compression)
    if compression not in _COMPRESSIONS:
        raise _unsupported_error(f"the compression {getattr(page.compression, 'name', compression)}")
    _check_color_space(page)
    if page.sampleformat != _UNSIGNED or not isinstance(page.bitspersample, int):
        raise _unsupported_error("samples that are not unsigned integers of one depth")
    # Readers disagree on a predictor that is set although it has no meaning for the compression.
    is_predictable = page.predictor == 2 and compression in _PREDICTED and page.bitspersample in {8, 16}
    if page.predictor != 1 and compression not in _UNPREDICTED and not is_predictable:
        raise _unsupported_error(f"the predictor {int(page.predictor)} with this compression")
    if compression == _WEBP and page.planarconfig == _PLANAR:
        raise _unsupported_error("separate planes in WebP")


def _check_color_space(page: TiffPage) -> None:
    """Refuse by name every color space that is not known to come out right."""
    photometric, bits = int(page.photometric), page.bitspersample
    if photometric in {_MIN_IS_WHITE, _MIN_IS_BLACK}:
        if bits == 16 or page.sampleformat != _UNSIGNED:
            raise FieldUnreadable(DEEP_GRAY)
        raise FieldUnreadable(GRAY)
    if photometric == _PALETTE and page.samplesperpixel == 1 and bits in {1, 2, 4, 8}:
        return
    is_jpeg_ycbcr = photometric == _YCBCR and page.compression == _JPEG and page.planarconfig != _PLANAR
    if photometric != _RGB and not (is_jpeg_ycbcr and page.samplesperpixel == 3):
        raise _unsupported_error(f"the color space {_COLOR_SPACES.get(photometric, photometric)}")
    if page.samplesperpixel not in {3, 4} or not (isinstance(bits, int) and 8 <= bits <= 16):
        raise _unsupported_error(f"{page.samplesperpixel} samples of {bits} bits per pixel")


def _decode_samples(page: TiffPage, data: bytes) -> NDArray[Any]:
    """Decode all strips or tiles; refuse an image that lacks some, which tifffile would leave black or undefined.

    tifffile refuses a short one itself, except in JPEG, which libjpeg fills up.
    """
    count = math.prod(page.chunked)
    offsets, lengths = page.dataoffsets, page.databytecounts
    if page.compression == _NONE and len(lengths) < count:  # some programs leave out what follows from the layout
        lengths = tuple(_strip_bytes(page, index) for index in range(count))
    if min(len(offsets), len(lengths)) < count:
        raise incomplete_error(f"{min(len(offsets), len(lengths))} of its {count} strips or tiles are present")
    check_end_copied(data, max(page.offset + 1, *map(sum, zip(offsets, lengths, strict=False))))
    samples = np.empty(page.shaped, page.dtype)
    for index in range(count):
        offset, length = offsets[index], lengths[index]
        if offset < _HEADER_BYTES or length < 1 or offset >= len(data):
            raise incomplete_error(f"strip or tile {index + 1} of {count} is missing")
        strip = data[offset : offset + length]
        if page.compression == _NONE:
            check_no_block_hole(data, offset, offset + length, length // _strip_size(page, index)[1] or length)
        if page.compression == _JPEG:
            check_jpeg_complete(strip, page.jpegtables or b"", *_strip_size(page, index))
        decoded, (plane, depth, top, left, _), (depths, rows, columns, _) = _decode_strip(page, strip, index)
        inside = decoded[:, : page.imagelength - top, : page.imagewidth - left]
        samples[plane, depth : depth + depths, top : top + rows, left : left + columns] = inside
    return samples.reshape(page.shape)


def _decode_strip(page: TiffPage, strip: bytes, index: int) -> Any:
    """Decode one strip or tile. One that holds more than its pixels, as a padded last strip does, is cut to them."""
    from tifffile import TIFF

    try:
        return page.decode(strip, index, jpegtables=page.jpegtables)
    except Exception:
        if page.compression not in _STRICT_ABOUT_EXCESS or page.fillorder != 1:
            raise
        n_bytes = _strip_bytes(page, index)
        found = TIFF.DECOMPRESSORS[page.compression](strip, out=2 * n_bytes)
        return page.decode(TIFF.COMPRESSORS[page.compression](found[:n_bytes]), index)


def _strip_bytes(page: TiffPage, index: int) -> int:
    """Return the bytes of an uncompressed strip or tile."""
    width, rows = _strip_size(page, index)
    samples = 1 if page.planarconfig == _PLANAR else page.samplesperpixel
    return rows * math.ceil(width * samples * page.bitspersample / 8)


def _strip_size(page: TiffPage, index: int) -> tuple[int, int]:
    """Return the width and height of a strip or tile in pixels; the last strip of a plane may be lower."""
    if page.is_tiled:
        return page.tilewidth, page.tilelength
    strips_per_plane = math.ceil(page.imagelength / page.rowsperstrip)
    top = index % strips_per_plane * page.rowsperstrip
    return page.imagewidth, min(page.rowsperstrip, page.imagelength - top)


def _bits_used(page: TiffPage, samples: NDArray[Any]) -> int:
    """Return how many bits the values use: MaxSampleValue tells of a camera's 10 to 14 bits in 16."""
    declared = page.tags.valueof(_MAX_SAMPLE_VALUE)
    if page.bitspersample != 16 or declared is None:
        return int(page.bitspersample)
    largest = int(np.max(declared))
    bits = largest.bit_length()
    return bits if 8 <= bits < 16 and int(samples.max()) < 2**bits else 16


def _apply_palette(page: TiffPage, indices: NDArray[Any]) -> Pixels:
    """Look up the colors, which are of 16 bits, or of 8 if a program left the upper ones out."""
    palette = page.colormap
    if palette is None or palette.shape != (3, 2**page.bitspersample):
        raise incomplete_error("its palette is missing")
    shift = 8 if palette.max() >= 256 else 0
    return (palette >> shift).astype(np.uint8).T[indices.astype(np.uint8, copy=False)]


def _orientation(page: TiffPage) -> int:
    """Return the orientation, 1 if it is missing or broken."""
    value = page.tags.valueof(_ORIENTATION)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _unsupported_error(layout: str) -> FieldUnreadable:
    """Return the error of a TIFF with a layout that is not read."""
    return FieldUnreadable(f"a TIFF with {layout} is not read; export 8-bit RGB")
