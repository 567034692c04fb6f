"""Which pictures a page shows: every one of a usual slide; of a huge one as many as still open and travel easily.

What is left out stays left out when the page is read back for a review (reading.py) and written again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from wbctool.labels import CellClass
from wbctool.records import Cell
from wbctool.report.places import ARTEFACT, REVIEW, place_of
from wbctool.slide_results import CellNote, CellPicture, FieldPicture, SlideResult

SHOWN_OF_A_CLASS = 200
FIELDS_SHOWN = 300
LEAST_BYTES, MOST_BYTES = 2_300_000, 8_000_000  # of pictures in a page; with the least, a page is under 3 MB
BYTES_A_CELL = 11_500
REVIEW_SHARE = 0.6  # of those bytes that the crops of cells in review may take, so that every class has some
_TILE_BYTES = 1_000  # what a page writes around a cell's crop


@dataclass(frozen=True, slots=True)
class CellView:
    """A cell as the page shows it. row: counts from 1 in cells.csv. field: where its field is in the page's list."""

    row: int
    cell: Cell
    place: str
    field: int
    picture: CellPicture
    note: CellNote | None


@dataclass(frozen=True, slots=True)
class Group:
    """A heading of the gallery: the cells that stand in a place, least certain first. total: with those not shown."""

    place: str
    views: tuple[CellView, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Gallery:
    """What is pictured: a group for every place, in order, the cells in review first; and reduced fields.

    cells_left_out, enhanced_left_out, fields_left_out: how many cells, super-resolved pictures of pictured cells, and
    fields of pictured cells the page does without.
    """

    groups: tuple[Group, ...]
    overviews: tuple[FieldPicture, ...]
    cells_left_out: int
    enhanced_left_out: int
    fields_left_out: int


def choose_pictures(result: SlideResult, fields: Sequence[str]) -> Gallery:
    """The pictures for a page, within its bounds. fields: the page's list of them."""
    places = _places(result, fields)
    in_review, of_classes = places[REVIEW], _in_turn(list(places.values())[1:])
    left = budget = min(MOST_BYTES, max(LEAST_BYTES, BYTES_A_CELL * len(result.cells)))
    shown: list[CellView] = []
    for views, most in ((in_review, int(REVIEW_SHARE * budget)), (of_classes, budget)):
        taken = _affordable([view.picture.native for view in views], min(left, most), _TILE_BYTES)
        shown += views[:taken]
        left -= _cost([view.picture.native for view in views[:taken]], _TILE_BYTES)
    overviews = {picture.name: picture for picture in result.field_pictures}
    enhanced, wanted = set[int](), dict[str, None]()
    for views in ([v for v in shown if v.place == REVIEW], [v for v in shown if v.place != REVIEW]):
        with_enhanced = [view for view in views if view.picture.enhanced]
        taken = _affordable([view.picture.enhanced for view in with_enhanced], left)
        enhanced |= {view.row for view in with_enhanced[:taken]}
        left -= _cost([view.picture.enhanced for view in with_enhanced[:taken]])
        names = [n for n in dict.fromkeys(view.cell.field for view in views) if n in overviews and n not in wanted]
        names = names[: FIELDS_SHOWN - len(wanted)]
        taken = _affordable([overviews[name].overview for name in names], left)
        wanted |= dict.fromkeys(names[:taken])
        left -= _cost([overviews[name].overview for name in names[:taken]])
    kept = {v.row: v if v.row in enhanced else replace(v, picture=replace(v.picture, enhanced=b"")) for v in shown}
    totals = Counter(place_of(cell.prediction) for cell in result.cells)
    groups = tuple(
        Group(place, tuple(kept[view.row] for view in views if view.row in kept), totals[place])
        for place, views in places.items()
    )
    return Gallery(
        groups,
        tuple(picture for picture in result.field_pictures if picture.name in wanted),
        cells_left_out=len(result.cells) - len(kept),
        enhanced_left_out=sum(v.cell.super_resolved and not v.picture.enhanced for v in kept.values()),
        fields_left_out=len({v.cell.field for v in kept.values()} - wanted.keys()),
    )


def _places(result: SlideResult, fields: Sequence[str]) -> dict[str, list[CellView]]:
    """The cells that may be pictured: of each place, those with a crop; what a reader spoke of, then the uncertain."""
    places: dict[str, list[CellView]] = {place: [] for place in (REVIEW, *CellClass, ARTEFACT)}
    at = {name: index for index, name in enumerate(fields)}
    notes = {note.row: note for note in result.notes}
    for row, (cell, picture) in enumerate(zip(result.cells, result.pictures, strict=True), start=1):
        if picture.native:
            place = place_of(cell.prediction)
            places[place].append(CellView(row, cell, place, at[cell.field], picture, notes.get(row)))
    for place, views in places.items():
        views.sort(key=lambda view: (view.note is None, view.cell.prediction.confidence))
        if place != REVIEW:
            del views[SHOWN_OF_A_CLASS:]
    return places


def _in_turn(classes: Sequence[Sequence[CellView]]) -> list[CellView]:
    """One of each class, then the next of each, so that no class is crowded out."""
    return [view for turn in zip_longest(*classes) for view in turn if view is not None]


def _affordable(pictures: Sequence[bytes], budget: int, around: int = 0) -> int:
    """How many of the first pictures a page takes for so many bytes. around: what it writes about each."""
    for taken, spent in enumerate(_running_cost(pictures, around)):
        if spent > budget:
            return taken
    return len(pictures)


def _cost(pictures: Sequence[bytes], around: int = 0) -> int:
    return max(_running_cost(pictures, around), default=0)


def _running_cost(pictures: Sequence[bytes], around: int) -> Iterator[int]:
    spent = 0
    for picture in pictures:
        spent += 4 * -(-len(picture) // 3) + around  # base64
        yield spent
