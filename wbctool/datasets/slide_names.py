"""Slides by the names that a laboratory's tables give them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from wbctool.datasets.laboratory_tables import strip_cell
from wbctool.errors import WbctoolError
from wbctool.report.csv_tables import encode_csv_name
from wbctool.text import encode_name

_EXCEL_TEXT = re.compile(r'="(.*)"')  # how a number is written for Excel to keep its leading zeros


class SlideNameIndex:
    """The ids of slides by their names, as wbctool writes them and as other systems may.

    A Mac writes é as e and an accent, Windows a backslash for /, and a person a space before or after.

    Args:
        slides: The ids of the slides that exist.
    """

    def __init__(self, slides: Iterable[str]) -> None:
        plain = {encode_name(id_): id_ for id_ in slides}
        written = {encode_csv_name(id_): id_ for id_ in plain.values()}
        self._exact = plain | written  # '=x is what counts.csv says of =x, even if there is a slide '=x
        self._normalized: dict[str, set[str]] = {}
        for name, id_ in (*plain.items(), *written.items()):
            self._normalized.setdefault(_normalize(name), set()).add(id_)

    def resolve(self, name: str, location: str, error: type[WbctoolError]) -> str | None:
        """Return the slide that a name in a table means.

        Args:
            name: The name as it stands in the table.
            location: Where it stands, for the message.
            error: Raised if the name could be one of several slides.

        Returns:
            The id of the slide of exactly this name, else of one whose name differs only as systems write it; None if
            there is none.
        """
        if name in self._exact:
            return self._exact[name]
        matches = sorted(self._normalized.get(_normalize(name), ()))
        if len(matches) > 1:
            ids = " or ".join(repr(encode_csv_name(id_)) for id_ in matches)
            raise error(f"{location}: {name!r} could be {ids}; write it as shown here")
        return matches[0] if matches else None


def _normalize(name: str) -> str:
    """Return a name without what differs between systems."""
    spaced = re.sub(r"\s", " ", strip_cell(unicodedata.normalize("NFC", name)))  # a no-break space is a space
    if as_text := _EXCEL_TEXT.fullmatch(spaced):
        spaced = as_text[1]
    return spaced.replace("\\", "/").strip("/")
