"""thumbnails.zip: the images of a slide's report as data, from which a reviewed report is rendered.

Members are ``cells/0001-native.webp``, ``cells/0001-super-resolved.webp`` and ``cells/0001-grad-cam.pgm``, numbered by
the cell's line in cells.csv, ``fields/0001.jpg``, and ``fields.json`` with the name and the size of each field.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import TypeAdapter

from wbctool.types.results import CellThumbnails, FieldThumbnail, SlideResult

_FIELDS_JSON = "fields.json"
_EARLIEST_TIME = (1980, 1, 1, 0, 0, 0)  # that a ZIP archive can hold; a fixed one gives the same bytes each time
_UNIX, _READABLE = 3, 0o644 << 16


@dataclass(frozen=True, slots=True)
class _FieldEntry:
    """One field of fields.json.

    Attributes:
        name: The field's name.
        image: The name of its thumbnail in the archive.
        width: The field's own width, in native pixels.
        height: The field's own height, in native pixels.
        x: Where a zone begins in its scan, in pixels from the left.
        y: The same from the top.
    """

    name: str
    image: str
    width: int
    height: int
    x: int = 0
    y: int = 0


_FIELDS = TypeAdapter(tuple[_FieldEntry, ...])


@dataclass(frozen=True, slots=True)
class Thumbnails:
    """The images of a slide's report.

    Attributes:
        cells: Those of each cell, in the order of cells.csv; empty for a cell that the report does not show.
        cams: The Grad-CAM map of each cell, row by row, a byte a point; empty if there is none.
        fields: The reduced fields.
    """

    cells: tuple[CellThumbnails, ...]
    cams: tuple[bytes, ...]
    fields: tuple[FieldThumbnail, ...]


def pack_thumbnails(result: SlideResult) -> bytes:
    """Return the archive of a result's thumbnails and Grad-CAM maps; the same result gives the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in _iter_members(result):
            member = zipfile.ZipInfo(name, _EARLIEST_TIME)
            member.create_system, member.external_attr = _UNIX, _READABLE
            archive.writestr(member, content)
    return buffer.getvalue()


def unpack_thumbnails(content: bytes, n_cells: int) -> Thumbnails:
    """Read an archive that :func:`pack_thumbnails` wrote.

    Args:
        content: The archive.
        n_cells: The number of cells in cells.csv.

    Raises:
        ValueError: The content is no such archive.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member.filename: archive.read(member) for member in archive.infolist()}
        entries = _FIELDS.validate_python(json.loads(members[_FIELDS_JSON]))
        fields = tuple(FieldThumbnail(e.name, e.width, e.height, members[e.image], e.x, e.y) for e in entries)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"it is not an archive of thumbnails: {error}") from error
    rows = range(1, n_cells + 1)
    return Thumbnails(
        tuple(CellThumbnails(members.get(_native(row), b""), members.get(_super_resolved(row), b"")) for row in rows),
        tuple(_parse_pgm(members.get(_grad_cam(row), b"")) for row in rows),
        fields,
    )


def _iter_members(result: SlideResult) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each member, in order."""
    for row, (cell, thumbnails) in enumerate(zip(result.cells, result.thumbnails, strict=True), start=1):
        members = {
            _native(row): thumbnails.native,
            _super_resolved(row): thumbnails.super_resolved,
            _grad_cam(row): _format_pgm(cell.prediction.cam),
        }
        yield from ((name, content) for name, content in members.items() if content)
    fields = {f"fields/{number:04}.jpg": field for number, field in enumerate(result.field_thumbnails, start=1)}
    yield from ((name, field.jpeg) for name, field in fields.items())
    entries = tuple(
        _FieldEntry(field.name, name, field.width, field.height, field.x, field.y) for name, field in fields.items()
    )
    content = _FIELDS.dump_python(entries, exclude_defaults=True)
    yield _FIELDS_JSON, (json.dumps(content, indent=1) + "\n").encode("ascii")


def _native(row: int) -> str:
    """Return the member of a cell's native crop."""
    return f"cells/{row:04}-native.webp"


def _super_resolved(row: int) -> str:
    """Return the member of a cell's super-resolved crop."""
    return f"cells/{row:04}-super-resolved.webp"


def _grad_cam(row: int) -> str:
    """Return the member of a cell's Grad-CAM map."""
    return f"cells/{row:04}-grad-cam.pgm"


def _format_pgm(cam: bytes) -> bytes:
    """Write a square map as a gray image that common viewers open; empty stays empty."""
    side = math.isqrt(len(cam))
    return b"P5\n%d %d\n255\n" % (side, side) + cam if cam else b""


def _parse_pgm(image: bytes) -> bytes:
    """Read what :func:`_format_pgm` wrote."""
    return image.split(b"\n", 3)[3] if image else b""
