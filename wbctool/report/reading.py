"""The pictures of a report, read back from the page: a reviewed report shows the same ones. The inverse of html.py."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from wbctool.types.results import CellThumbnails, FieldThumbnail

_IMAGE = re.compile(
    r'<img id="(native|enhanced|field)-(\d+)" src="data:image/(?:webp|jpeg);base64,([A-Za-z0-9+/=]+)"'
    r'(?: alt="[^"]*" width="(\d+)" height="(\d+)")'
)
_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


@dataclass(frozen=True, slots=True)
class PageContent:
    """pictures, attention: of each cell, in order."""

    pictures: tuple[CellThumbnails, ...]
    attention: tuple[bytes, ...]
    field_pictures: tuple[FieldThumbnail, ...]


def read_report_page(page: str) -> PageContent:
    """What a page of this version shows. Raises ValueError or KeyError where it is none."""
    found = _DATA.search(page)
    if found is None:
        raise ValueError("no data in the page")
    data = json.loads(found[1])
    images: dict[tuple[str, int], re.Match[str]] = {(m[1], int(m[2])): m for m in _IMAGE.finditer(page)}
    rows = range(1, len(data["cells"]) + 1)
    return PageContent(
        pictures=tuple(
            CellThumbnails(_content(images, "native", row), _content(images, "enhanced", row)) for row in rows
        ),
        attention=tuple(base64.b64decode(data["cam"].get(str(row), "")) for row in rows),
        field_pictures=tuple(
            FieldThumbnail(data["fields"][at], int(match[4]), int(match[5]), _content(images, "field", at))
            for (kind, at), match in images.items()
            if kind == "field"
        ),
    )


def _content(images: Mapping[tuple[str, int], re.Match[str]], kind: str, number: int) -> bytes:
    match = images.get((kind, number))
    return base64.b64decode(match[3]) if match else b""
