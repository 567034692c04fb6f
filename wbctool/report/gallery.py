"""Which pictures a page shows: every one of a usual slide; of a huge one as many as still open and travel easily.

What is left out is not stored either, and so stays left out when a review renders the page again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from wbctool.labels import CellClass
from wbctool.report.disposition import ARTIFACT, REVIEW, category_of
from wbctool.types.cells import Cell
from wbctool.types.results import CellThumbnails, FieldThumbnail, ReviewNote, SlideResult

MAX_CELLS_PER_CLASS = 200
MAX_FIELDS = 300
MIN_BYTES, MAX_BYTES = 2_300_000, 8_000_000  # of pictures in a page; with the least, a page is under 3 MB
BYTES_PER_CELL = 11_500
REVIEW_BYTE_SHARE = 0.6  # of those bytes that the crops of cells in review may take, so that every class has some
_TILE_OVERHEAD_BYTES = 1_000  # what a page writes around a cell's crop


@dataclass(frozen=True, slots=True)
class CellTile:
    """A cell as the page shows it. row: counts from 1 in cells.csv. field_index: where its field is in the page's list."""

    row: int
    cell: Cell
    category: str
    field_index: int
    thumbnails: CellThumbnails
    note: ReviewNote | None


@dataclass(frozen=True, slots=True)
class GallerySection:
    """A heading of the gallery: the cells that stand in a place, least certain first. total: with those not shown."""

    category: str
    tiles: tuple[CellTile, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Gallery:
    """What is pictured: a group for every place, in order, the cells in review first; and reduced fields.

    omitted_cells, omitted_super_resolved, omitted_fields: how many cells, super-resolved pictures of pictured cells, and
    fields of pictured cells the page does without.
    """

    sections: tuple[GallerySection, ...]
    field_thumbnails: tuple[FieldThumbnail, ...]
    omitted_cells: int
    omitted_super_resolved: int
    omitted_fields: int


def select_thumbnails(result: SlideResult, fields: Sequence[str]) -> Gallery:
    """The pictures for a page, within its bounds. fields: the page's list of them."""
    tiles_by_category = _tiles_by_category(result, fields)
    review_tiles, class_tiles = tiles_by_category[REVIEW], _round_robin(list(tiles_by_category.values())[1:])
    remaining = budget = min(MAX_BYTES, max(MIN_BYTES, BYTES_PER_CELL * len(result.cells)))
    selected: list[CellTile] = []
    for tiles, limit in ((review_tiles, int(REVIEW_BYTE_SHARE * budget)), (class_tiles, budget)):
        n_taken = _count_within_budget(
            [view.thumbnails.native for view in tiles], min(remaining, limit), _TILE_OVERHEAD_BYTES
        )
        selected += tiles[:n_taken]
        remaining -= _total_bytes([view.thumbnails.native for view in tiles[:n_taken]], _TILE_OVERHEAD_BYTES)
    overviews = {picture.name: picture for picture in result.field_thumbnails}
    super_resolved_rows, chosen_fields = set[int](), dict[str, None]()
    for tiles in ([v for v in selected if v.category == REVIEW], [v for v in selected if v.category != REVIEW]):
        super_resolved_tiles = [view for view in tiles if view.thumbnails.super_resolved]
        n_taken = _count_within_budget([view.thumbnails.super_resolved for view in super_resolved_tiles], remaining)
        super_resolved_rows |= {view.row for view in super_resolved_tiles[:n_taken]}
        remaining -= _total_bytes([view.thumbnails.super_resolved for view in super_resolved_tiles[:n_taken]])
        names = [
            n for n in dict.fromkeys(view.cell.field for view in tiles) if n in overviews and n not in chosen_fields
        ]
        names = names[: MAX_FIELDS - len(chosen_fields)]
        n_taken = _count_within_budget([overviews[name].jpeg for name in names], remaining)
        chosen_fields |= dict.fromkeys(names[:n_taken])
        remaining -= _total_bytes([overviews[name].jpeg for name in names[:n_taken]])
    tiles_by_row = {
        v.row: v if v.row in super_resolved_rows else replace(v, thumbnails=replace(v.thumbnails, super_resolved=b""))
        for v in selected
    }
    totals = Counter(category_of(cell.prediction) for cell in result.cells)
    sections = tuple(
        GallerySection(
            place, tuple(tiles_by_row[view.row] for view in views if view.row in tiles_by_row), totals[place]
        )
        for place, views in tiles_by_category.items()
    )
    return Gallery(
        sections,
        tuple(picture for picture in result.field_thumbnails if picture.name in chosen_fields),
        omitted_cells=len(result.cells) - len(tiles_by_row),
        omitted_super_resolved=sum(
            v.cell.super_resolved and not v.thumbnails.super_resolved for v in tiles_by_row.values()
        ),
        omitted_fields=len({v.cell.field for v in tiles_by_row.values()} - chosen_fields.keys()),
    )


def page_fields(result: SlideResult) -> tuple[str, ...]:
    """Return the names of the fields with cells, which a page counts from 0."""
    return tuple(dict.fromkeys(cell.field for cell in result.cells))


def keep_shown(result: SlideResult) -> SlideResult:
    """Return a result without the thumbnails and Grad-CAM maps that its page does not show."""
    gallery = select_thumbnails(result, page_fields(result))
    shown = {tile.row: tile.thumbnails for section in gallery.sections for tile in section.tiles}
    rows = range(1, len(result.cells) + 1)
    return replace(
        result,
        cells=tuple(
            cell if row in shown else replace(cell, prediction=replace(cell.prediction, cam=b""))
            for row, cell in zip(rows, result.cells, strict=True)
        ),
        thumbnails=tuple(shown.get(row, CellThumbnails()) for row in rows),
        field_thumbnails=gallery.field_thumbnails,
    )


def _tiles_by_category(result: SlideResult, fields: Sequence[str]) -> dict[str, list[CellTile]]:
    """The cells that may be pictured: of each place, those with a crop; what a reader spoke of, then the uncertain."""
    tiles_by_category: dict[str, list[CellTile]] = {place: [] for place in (REVIEW, *CellClass, ARTIFACT)}
    field_indices = {name: index for index, name in enumerate(fields)}
    notes = {note.row: note for note in result.notes}
    for row, (cell, thumbnails) in enumerate(zip(result.cells, result.thumbnails, strict=True), start=1):
        if thumbnails.native:
            category = category_of(cell.prediction)
            tiles_by_category[category].append(
                CellTile(row, cell, category, field_indices[cell.field], thumbnails, notes.get(row))
            )
    for category, tiles in tiles_by_category.items():
        tiles.sort(key=lambda view: (view.note is None, view.cell.prediction.confidence))
        if category != REVIEW:
            del tiles[MAX_CELLS_PER_CLASS:]
    return tiles_by_category


def _round_robin(classes: Sequence[Sequence[CellTile]]) -> list[CellTile]:
    """One of each class, then the next of each, so that no class is crowded out."""
    return [view for turn in zip_longest(*classes) for view in turn if view is not None]


def _count_within_budget(images: Sequence[bytes], budget: int, overhead: int = 0) -> int:
    """How many of the first pictures a page takes for so many bytes. overhead: what it writes about each."""
    for count, spent in enumerate(_cumulative_bytes(images, overhead)):
        if spent > budget:
            return count
    return len(images)


def _total_bytes(images: Sequence[bytes], overhead: int = 0) -> int:
    return max(_cumulative_bytes(images, overhead), default=0)


def _cumulative_bytes(images: Sequence[bytes], overhead: int) -> Iterator[int]:
    spent = 0
    for image in images:
        spent += 4 * -(-len(image) // 3) + overhead  # base64
        yield spent
