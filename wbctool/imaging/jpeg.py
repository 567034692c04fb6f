"""The segments of a JPEG image: those of the pixels, and those that describe them.

libjpeg fills damaged parts with gray and mentions it in a warning, beside warnings that touch no pixel. So it is given
the pixels alone, and its warnings are errors.

References:
    ITU-T T.81, Digital compression and coding of continuous-tone still images, annex B; T.871, JFIF.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

import simplejpeg

from wbctool.types.arrays import Pixels

_START = b"\xff\xd8"
_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
_COMMENT, _JFIF, _EXIF, _ICC, _ADOBE = 0xFE, 0xE0, 0xE1, 0xE2, 0xEE
_APPLICATION = range(0xE0, 0xF0)
_WITHOUT_LENGTH = frozenset({0x01, *range(0xD0, 0xDA)})
_PLAIN_JFIF = b"\xff\xe0\0\x10JFIF\0\1\1\1\0\x48\0\x48\0\0"  # of 72 pixels per inch
_JFIF_BYTES, _ADOBE_BYTES, _ICC_BYTES = 18, 16, 18  # from the marker on; libjpeg does not know shorter ones
_SCAN_DATA = 0  # instead of a marker
_MAX_REPAIRS = 16  # of a progressive JPEG, of which several scans may end in zeros
_MARKER = re.compile(rb"\xff+([\x01-\xfe])")
_NEXT_MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")  # neither a stuffed byte nor a restart
_PADDED_RESTART = re.compile(rb"(?:(?<![\0\xff])|(?<=\xff\0))\0++(?=\xff+[\xd0-\xd7])")  # not a stuffed zero


def decode_jpeg(jpeg: bytes) -> Pixels:
    """Decode a color JPEG of which no pixel may be missing.

    Padding before a restart or end mark, as some cameras write it, is left out if libjpeg complains of it.

    Args:
        jpeg: The file's bytes.

    Returns:
        (H, W, 3) uint8 RGB, as stored: not turned.

    Raises:
        ValueError: Pixels are missing or damaged; the message is libjpeg's.
    """
    segments = list(_pixel_segments(jpeg))
    try:
        return _decode_strictly([content for _, content in segments])
    except ValueError as error:
        if "extraneous bytes" not in str(error):
            raise
        for parts in itertools.islice(_iter_unpadded(segments), _MAX_REPAIRS):
            try:
                return _decode_strictly(parts)
            except ValueError:
                continue
        raise


def descriptive_segments(jpeg: bytes) -> bytes:
    """Return a JPEG's header without the segments that say nothing of its size, colors, and orientation.

    Pillow refuses whole images for some of those others.
    """
    parts = [_START, _PLAIN_JFIF]
    for marker, content in _segments(jpeg):
        if marker == _ICC and content[4:].startswith(b"ICC_PROFILE\0"):
            body = content[4:].ljust(_ICC_BYTES - 4, b"\0")  # a short one makes the profile unreadable, not the image
            parts.append(content[:2] + (len(body) + 2).to_bytes(2, "big") + body)
        elif marker == _EXIF or _is_of_pixels(marker):
            parts.append(content)
        if marker == _START_OF_SCAN:
            break
    return b"".join(parts)


def _decode_strictly(parts: list[bytes] | tuple[bytes, ...]) -> Pixels:
    """Decode a JPEG; libjpeg's warnings are errors."""
    rgb: Pixels = simplejpeg.decode_jpeg(b"".join(parts), "RGB", strict=True)
    return rgb


def _pixel_segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield what makes a JPEG's pixels; of the applications' segments, what libjpeg takes the color space from."""
    yield _START_OF_IMAGE, _START
    for marker, content in _segments(jpeg):
        if marker == _JFIF and content[4:].startswith(b"JFIF\0") and len(content) >= _JFIF_BYTES:
            yield marker, _PLAIN_JFIF  # its version and resolution do not matter
        elif _is_of_pixels(marker) or (
            marker == _ADOBE and content[4:].startswith(b"Adobe") and len(content) >= _ADOBE_BYTES
        ):
            yield marker, content


def _is_of_pixels(marker: int) -> bool:
    """Tell a segment of the pixels from one of an application, or a comment."""
    return marker not in _APPLICATION and marker != _COMMENT


def _segments(jpeg: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the marker and the bytes of each segment up to the end mark; a scan's data are a segment of their own.

    Stray bytes between two segments are skipped, as libjpeg does.
    """
    position = len(_START)
    while match := _MARKER.search(jpeg, position):
        marker, position = match[1][0], match.end()
        start = position - 2
        if marker in _WITHOUT_LENGTH:
            if marker in {_START_OF_IMAGE, _END_OF_IMAGE}:  # a second start is an error, a restart here is not
                yield marker, jpeg[start:position]
            if marker == _END_OF_IMAGE:
                return
            continue
        position += int.from_bytes(jpeg[position : position + 2], "big")
        yield marker, jpeg[start:position]
        if marker == _START_OF_SCAN:
            following = _NEXT_MARKER.search(jpeg, position)
            end = following.start() if following else len(jpeg)
            yield _SCAN_DATA, jpeg[position:end]
            position = end


def _iter_unpadded(segments: list[tuple[int, bytes]]) -> Iterator[tuple[bytes, ...]]:
    """Yield a JPEG's segments without padding of the scans, in all ways in which it may be told from data."""
    scans = [index for index, (marker, _) in enumerate(segments) if marker == _SCAN_DATA]
    choices = [
        _without_padding(content, index == scans[-1]) if marker == _SCAN_DATA else [content]
        for index, (marker, content) in enumerate(segments)
    ]
    return itertools.product(*choices)


def _without_padding(scan: bytes, is_last: bool) -> list[bytes]:
    """Return what a scan's data may be without padding.

    It is zeros, or before the end mark any byte in a row, or line ends. Data hardly ever end in two such bytes. If more
    of them than that are needed to fill the image they are no padding but a hole.
    """
    shortest = min((len(match[0]) for match in _PADDED_RESTART.finditer(scan)), default=0)

    def shorten(match: re.Match[bytes]) -> bytes:
        return match[0][shortest:]  # padding that is always as long leaves zeros of the data

    def keep_single(match: re.Match[bytes]) -> bytes:
        return match[0] if len(match[0]) == 1 else b""  # padding of a few intervals, zeros of the data in others

    ways = (b"", shorten, keep_single)
    found = dict.fromkeys(_PADDED_RESTART.sub(way, scan) for way in ways)
    last = scan[-1:]
    padding = (b"\r\n" if last in b"\r\n" else last) if is_last else b"\0"
    choices: list[bytes] = []
    for data in found:
        kept = len(data.rstrip(padding))
        kept += data[kept - 1 : kept] == b"\xff"  # the zero behind 255 belongs to it
        choices += [data[:kept], data[: kept + 1]] if kept < len(data) else [data]
    return choices
