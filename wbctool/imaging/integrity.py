"""Whether a file holds every pixel that its header promises, where its decoder would not say.

libtiff paints a damaged JPEG strip grey and a strip that no table names black, and reads a deflate strip to its last
pixel, so often not to its check sum. Pillow leaves black what lies behind the end of a PNG's data.
"""

from __future__ import annotations

import ctypes
import functools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import simplejpeg
from PIL import PngImagePlugin, TiffImagePlugin, _imaging

from wbctool.errors import FieldUnreadable

_UNCOMPRESSED, _OLD_JPEG, _JPEG, _DEFLATE = 1, 6, 7, (8, 32946)  # TIFF's numbers for how its pixels are packed
_BANDS_APART = 2  # TIFF's number for first all red, then all green, then all blue
_TIFF_HEADER_BYTES = 8
_END_OF_JPEG = b"\xff\xd9"
_INFLATED_AT_ONCE = 65_536  # bytes as they are packed, so that a bomb fills no memory
_PNG_SIGNATURE_BYTES = 8
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # a pixel's, by the header's colour type
_ONE_PASS = ((0, 0, 1, 1),)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""An interlaced PNG's seven passes: the first column and row of each, and the steps to the next ones."""


def refuse_incomplete_tiff(image: TiffImagePlugin.TiffImageFile, data: bytes) -> None:
    """Raise FieldUnreadable where ``data``, the TIFF's bytes, lack pixels. Before they are loaded.

    JPEG and deflate strips are decoded once more; of other packings libtiff itself says what is missing. Not looked
    into: JPEG as TIFF 6.0 had it until 1995, which has tables of its own.
    """
    tags = image.tag_v2
    packing = tags.get(TiffImagePlugin.COMPRESSION, _UNCOMPRESSED)
    if packing == _OLD_JPEG:
        return
    try:
        parts = _parts(tags)
    except (ArithmeticError, KeyError, TypeError) as error:
        raise _incomplete("the size of its strips or tiles is missing") from error
    tables = tags.get(TiffImagePlugin.JPEGTABLES, b"").rpartition(_END_OF_JPEG)[0]
    mirrored = tags.get(TiffImagePlugin.FILLORDER, 1) != 1  # bits from right to left, which nothing writes for deflate
    for number, content in enumerate(_contents(tags, parts, data, packing == _UNCOMPRESSED)):
        if packing == _JPEG:
            _refuse_damaged_jpeg(tables + content[2:] if tables else content, parts.width, parts.rows_of(number))
        elif packing in _DEFLATE and not mirrored:
            _refuse_damaged_deflate(content, parts.bytes_of(number))


def refuse_incomplete_png(image: PngImagePlugin.PngImageFile, data: bytes) -> None:
    """Raise FieldUnreadable where ``data``, the PNG's bytes, lack pixels. After they were loaded.

    Pixels that never came are zeros, and the last row comes last. So only where the last row is all zeros, which it
    hardly ever is, or where the picture is interlaced, with its rows in another order, are its data unpacked again.
    """
    interlaced = bool(image.info.get("interlace"))
    last_row = image.crop((0, image.height - 1, image.width, image.height))
    if last_row.getbbox(alpha_only=False) and not interlaced:
        return
    header, packed = _png_chunks(data)
    bits = header[8] * _PNG_SAMPLES[header[9]]
    promised = sum(
        rows * (1 + _bytes_for(columns * bits))  # each row begins with the number of its filter
        for columns, rows in _passes(image.width, image.height, _ADAM7 if interlaced else _ONE_PASS)
    )
    found = _unpacked(packed, promised)[0]
    if found < promised:
        raise _incomplete(f"its data end after {found} of {promised} bytes")


@functools.cache
def keep_libtiff_quiet() -> None:
    """Keep libtiff from writing to the terminal what Pillow raises anyway. Where Pillow hides it (Windows) it does."""
    try:
        switch = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler  # looked for in the libraries that Pillow loads too
    except (AttributeError, OSError):
        return
    switch.argtypes, switch.restype = [ctypes.c_void_p], ctypes.c_void_p
    switch(None)


@dataclass(frozen=True, slots=True)
class _Parts:
    """A TIFF's strips, which are as wide as the picture, or its tiles.

    count: of them all. width, rows: of one, in pixels. row_bytes: of a row of one, uncompressed. down: how many of them
    lie below each other. height: where the lowest ends, in pixels: a strip with the picture, a tile is always whole.
    """

    count: int
    width: int
    rows: int
    row_bytes: int
    down: int
    height: int

    def rows_of(self, number: int) -> int:
        return min(self.rows, self.height - number % self.down * self.rows)

    def bytes_of(self, number: int) -> int:
        return self.rows_of(number) * self.row_bytes


def _parts(tags: TiffImagePlugin.ImageFileDirectory_v2) -> _Parts:
    width, height = tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH]
    samples = tags.get(TiffImagePlugin.SAMPLESPERPIXEL, 1)
    apart = tags.get(TiffImagePlugin.PLANAR_CONFIGURATION, 1) == _BANDS_APART
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))[0] * (1 if apart else samples)
    tiled = TiffImagePlugin.TILEWIDTH in tags
    if tiled:
        part_width, rows = tags[TiffImagePlugin.TILEWIDTH], tags[TiffImagePlugin.TILELENGTH]
    else:
        part_width, rows = width, min(tags.get(TiffImagePlugin.ROWSPERSTRIP, height), height)
    across, down = -(-width // part_width), -(-height // rows)
    return _Parts(
        count=across * down * (samples if apart else 1),
        width=part_width,
        rows=rows,
        row_bytes=_bytes_for(part_width * bits),
        down=down,
        height=down * rows if tiled else height,
    )


def _contents(
    tags: TiffImagePlugin.ImageFileDirectory_v2, parts: _Parts, data: bytes, uncompressed: bool
) -> Iterator[memoryview]:
    """Each part's bytes, by the tables. An uncompressed one's length is known: some programs write none or too much."""
    offsets = tags.get(TiffImagePlugin.TILEOFFSETS) or tags.get(TiffImagePlugin.STRIPOFFSETS) or ()
    lengths = tags.get(TiffImagePlugin.TILEBYTECOUNTS) or tags.get(TiffImagePlugin.STRIPBYTECOUNTS) or ()
    if uncompressed and not lengths:
        lengths = [parts.bytes_of(number) for number in range(len(offsets))]
    listed = min(len(offsets), len(lengths))
    if listed < parts.count:
        raise _incomplete(f"{listed} of its {parts.count} strips or tiles are present")
    for number in range(parts.count):
        offset, length = offsets[number], lengths[number]
        least = parts.bytes_of(number) if uncompressed else 1
        end = offset + (least if uncompressed else length)
        if offset < _TIFF_HEADER_BYTES or length < least or end > len(data):
            raise _incomplete(f"strip or tile {number + 1} of {parts.count} is incomplete")
        yield memoryview(data)[offset:end]


def _refuse_damaged_jpeg(jpeg: bytes | memoryview, width: int, rows: int) -> None:
    try:
        height_found, width_found, colours, _ = simplejpeg.decode_jpeg_header(jpeg, strict=True)
        colours = "CMYK" if colours in {"CMYK", "YCCK"} else "GRAY"
        # all of it is read, but an eighth of it drawn, which halves the cost
        simplejpeg.decode_jpeg(jpeg, colours, min_height=1, min_width=1, min_factor=8, strict=True)
    except ValueError as error:
        raise _incomplete(str(error)) from error
    if width_found < width or height_found < rows:
        raise _incomplete(f"a strip or tile of {width}×{rows} pixels holds {width_found}×{height_found}")


def _refuse_damaged_deflate(packed: memoryview, promised: int) -> None:
    try:
        whole = _unpacked([packed], 2 * promised)[1]
    except zlib.error as error:
        raise _incomplete(str(error)) from error
    if not whole:
        raise _incomplete("a strip or tile has no end")


def _unpacked(packed: Sequence[bytes | memoryview], most: int) -> tuple[int, bool]:
    """How many bytes a deflate stream holds, counted up to ``most``, and whether it ended, with a right check sum."""
    stream, length = zlib.decompressobj(), 0
    for content in packed:
        for start in range(0, len(content), _INFLATED_AT_ONCE):
            length += len(stream.decompress(content[start : start + _INFLATED_AT_ONCE]))
            if stream.eof or length > most:
                return length, stream.eof
    return length, False


def _png_chunks(data: bytes) -> tuple[bytes, list[bytes]]:
    """A PNG's header and its chunks of pixels."""
    header, packed, place = b"", [], _PNG_SIGNATURE_BYTES
    while place < len(data):
        length, kind = int.from_bytes(data[place : place + 4], "big"), data[place + 4 : place + 8]
        if kind == b"IHDR":
            header = data[place + 8 : place + 8 + length]
        elif kind == b"IDAT":
            packed.append(data[place + 8 : place + 8 + length])
        place += 12 + length  # its length, its kind and its check sum are four bytes each
    return header, packed


def _passes(width: int, height: int, passes: tuple[tuple[int, int, int, int], ...]) -> Iterator[tuple[int, int]]:
    """(columns, rows) of each pass that has pixels."""
    for left, top, right, down in passes:
        columns, rows = -((left - width) // right), -((top - height) // down)
        if columns > 0 and rows > 0:
            yield columns, rows


def _bytes_for(bits: int) -> int:
    return -(-bits // 8)


def _incomplete(why: str) -> FieldUnreadable:
    return FieldUnreadable(f"the image is incomplete or damaged ({why})")
