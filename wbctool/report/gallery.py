"""Selection of the thumbnails of a report: all of them for a usual slide, as many as fit a size limit for a huge one.

What is left out stays left out when the page is read back for a review (reading.py) and written again.
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
MIN_BYTES, MAX_BYTES = 2_300_000, 8_000_000  # limits of the byte budget; with the lower one, a page is under 3 MB
BYTES_PER_CELL = 11_500
REVIEW_BYTE_SHARE = 0.6  # of the budget for cells in review, so that some is left for every class
_TILE_OVERHEAD_BYTES = 1_000  # of markup around the thumbnails of a cell


@dataclass(frozen=True, slots=True)
class CellTile:
    """A cell as the page shows it.

    Attributes:
        row: Row in cells.csv, from 1.
        cell: The cell.
        category: One of ``disposition.CATEGORIES``.
        field_index: Index of the cell's field in the page's list of fields, from 0.
        thumbnails: Images of the cell; ``super_resolved`` is empty if it is left out.
        note: What readers did with the cell, or None.
    """

    row: int
    cell: Cell
    category: str
    field_index: int
    thumbnails: CellThumbnails
    note: ReviewNote | None


@dataclass(frozen=True, slots=True)
class GallerySection:
    """The cells of one category.

    Attributes:
        category: One of ``disposition.CATEGORIES``.
        tiles: The cells shown, least certain first.
        total: Number of cells in the category, including those not shown.
    """

    category: str
    tiles: tuple[CellTile, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Gallery:
    """The images of a page.

    Attributes:
        sections: One section per category, the cells in review first.
        field_thumbnails: The fields shown.
        omitted_cells: Number of cells not shown.
        omitted_super_resolved: Number of cells shown without their super-resolved image.
        omitted_fields: Number of fields not shown that have cells shown.
    """

    sections: tuple[GallerySection, ...]
    field_thumbnails: tuple[FieldThumbnail, ...]
    omitted_cells: int
    omitted_super_resolved: int
    omitted_fields: int


def select_thumbnails(result: SlideResult, fields: Sequence[str]) -> Gallery:
    """Select the images of a page within its limits, cells in review first.

    Args:
        result: The slide.
        fields: The page's list of fields, to which ``CellTile.field_index`` refers.
    """
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


def _tiles_by_category(result: SlideResult, fields: Sequence[str]) -> dict[str, list[CellTile]]:
    """Return the cells with a thumbnail by category: first those with a reader's note, then the least certain."""
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
    """Interleave the classes so that no class is crowded out."""
    return [view for turn in zip_longest(*classes) for view in turn if view is not None]


def _count_within_budget(images: Sequence[bytes], budget: int, overhead: int = 0) -> int:
    """Count how many of the first images fit a budget of bytes, with ``overhead`` bytes of markup each."""
    for count, spent in enumerate(_cumulative_bytes(images, overhead)):
        if spent > budget:
            return count
    return len(images)


def _total_bytes(images: Sequence[bytes], overhead: int = 0) -> int:
    """Return the bytes that images take in a page."""
    return max(_cumulative_bytes(images, overhead), default=0)


def _cumulative_bytes(images: Sequence[bytes], overhead: int) -> Iterator[int]:
    """Yield the running total of the bytes that images take in a page."""
    spent = 0
    for image in images:
        spent += 4 * -(-len(image) // 3) + overhead  # base64
        yield spent
