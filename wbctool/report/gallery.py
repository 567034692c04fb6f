"""Selection of the thumbnails of a report: all of them for a usual slide, as many as fit a size limit for a huge one.

What is left out is not stored either, and so stays left out when a review renders the page again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, takewhile, zip_longest

from wbctool.labels import CellClass
from wbctool.report.categories import ARTIFACT, IN_REVIEW, category_of
from wbctool.types.cells import Cell, Reason
from wbctool.types.results import CellThumbnails, FieldThumbnail, ReviewNote, SlideResult

MAX_CELLS_PER_CLASS = 200
MAX_FIELDS = 300
MIN_BYTES, MAX_BYTES = 2_300_000, 8_000_000  # limits of the byte budget; with the lower one, a page is under 3 MB
BYTES_PER_CELL = 11_500
MAX_REVIEW_BYTES = 24_000_000  # for the native images of cells in review: a reader cannot name a cell that is not shown
MAX_REVIEW_SHARE = 0.6  # of that budget for cells in review, so that some is left for every class
_TILE_OVERHEAD_BYTES = 1_000  # of markup around the thumbnails of a cell
# Of review cells whose label is not to be relied on.
DOUBTED_REASONS: tuple[str, ...] = (Reason.POSSIBLE_BLAST, Reason.OUT_OF_DISTRIBUTION)
REVIEW_GROUPS: tuple[str, ...] = (*DOUBTED_REASONS, *CellClass)


@dataclass(frozen=True, slots=True)
class CellTile:
    """A cell as the page shows it.

    Attributes:
        row: Row in cells.csv, from 1.
        cell: The cell.
        category: One of ``categories.CATEGORIES``.
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

    @property
    def review_group(self) -> str:
        """The group in which the cell is shown if it is in review, one of ``REVIEW_GROUPS``."""
        prediction = self.cell.prediction
        return prediction.reason if prediction.reason in DOUBTED_REASONS else prediction.label


@dataclass(frozen=True, slots=True)
class GallerySection:
    """The cells of one category.

    Attributes:
        category: One of ``categories.CATEGORIES``.
        tiles: The cells shown, least certain first.
        total: Number of cells in the category, including those not shown.
    """

    category: str
    tiles: tuple[CellTile, ...]
    total: int

    @property
    def review_groups(self) -> dict[str, list[CellTile]]:
        """The tiles by group, as a reader names them in review."""
        groups: dict[str, list[CellTile]] = {group: [] for group in REVIEW_GROUPS}
        for tile in self.tiles:
            groups[tile.review_group].append(tile)
        return groups


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
    review_tiles, class_tiles = tiles_by_category[IN_REVIEW], _round_robin(list(tiles_by_category.values())[1:])
    n_bytes = min(MAX_BYTES, max(MIN_BYTES, BYTES_PER_CELL * len(result.cells)))
    review_budget = _ByteBudget(MAX_REVIEW_BYTES)
    review_tiles = review_budget.take_tiles(review_tiles)
    budget = _ByteBudget(n_bytes - min(review_budget.taken, int(MAX_REVIEW_SHARE * n_bytes)))
    class_tiles = budget.take_tiles(class_tiles)
    field_jpegs = {thumbnail.name: thumbnail.jpeg for thumbnail in result.field_thumbnails}
    tiles_by_row, chosen_fields = dict[int, CellTile](), dict[str, None]()
    for tiles in (review_tiles, class_tiles):
        tiles_by_row |= {tile.row: tile for tile in budget.drop_super_resolved(tiles)}
        names = [name for name in dict.fromkeys(tile.cell.field for tile in tiles) if name in field_jpegs]
        names = [name for name in names if name not in chosen_fields][: MAX_FIELDS - len(chosen_fields)]
        chosen_fields |= dict.fromkeys(names[: budget.take([field_jpegs[name] for name in names])])
    totals = Counter(category_of(cell.prediction) for cell in result.cells)
    sections = tuple(
        GallerySection(
            category, tuple(tiles_by_row[tile.row] for tile in tiles if tile.row in tiles_by_row), totals[category]
        )
        for category, tiles in tiles_by_category.items()
    )
    return Gallery(
        sections,
        tuple(thumbnail for thumbnail in result.field_thumbnails if thumbnail.name in chosen_fields),
        omitted_cells=len(result.cells) - len(tiles_by_row),
        omitted_super_resolved=sum(
            tile.cell.super_resolved and not tile.thumbnails.super_resolved for tile in tiles_by_row.values()
        ),
        omitted_fields=len({tile.cell.field for tile in tiles_by_row.values()} - chosen_fields.keys()),
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
    """Return the cells with a thumbnail by category: first those with a reader's note, then the least certain."""
    tiles_by_category: dict[str, list[CellTile]] = {category: [] for category in (IN_REVIEW, *CellClass, ARTIFACT)}
    field_indices = {name: index for index, name in enumerate(fields)}
    notes = {note.row: note for note in result.notes}
    for row, (cell, thumbnails) in enumerate(zip(result.cells, result.thumbnails, strict=True), start=1):
        if thumbnails.native:
            category = category_of(cell.prediction)
            tiles_by_category[category].append(
                CellTile(row, cell, category, field_indices[cell.field], thumbnails, notes.get(row))
            )
    for category, tiles in tiles_by_category.items():
        tiles.sort(key=lambda tile: (tile.note is None, tile.cell.prediction.confidence))
        if category != IN_REVIEW:
            del tiles[MAX_CELLS_PER_CLASS:]
    return tiles_by_category


def _round_robin(classes: Sequence[Sequence[CellTile]]) -> list[CellTile]:
    """Interleave the classes so that no class is crowded out."""
    return [tile for turn in zip_longest(*classes) for tile in turn if tile is not None]


class _ByteBudget:
    """The bytes that are left for the images of a page."""

    def __init__(self, n_bytes: int) -> None:
        self.remaining = n_bytes
        self.taken = 0

    def take(self, images: Sequence[bytes], overhead: int = 0) -> int:
        """Take the first images that fit, with ``overhead`` bytes of markup each, and return their number."""
        sizes = accumulate(4 * -(-len(image) // 3) + overhead for image in images)  # in base64
        taken = list(takewhile(lambda size: size <= self.remaining, sizes))
        if taken:
            self.remaining -= taken[-1]
            self.taken += taken[-1]
        return len(taken)

    def take_tiles(self, tiles: Sequence[CellTile]) -> list[CellTile]:
        """Take the first tiles whose native images fit."""
        return list(tiles[: self.take([tile.thumbnails.native for tile in tiles], _TILE_OVERHEAD_BYTES)])

    def drop_super_resolved(self, tiles: Sequence[CellTile]) -> Iterator[CellTile]:
        """Take the first super-resolved images that fit, and yield the tiles, without the others."""
        n_taken = self.take([tile.thumbnails.super_resolved for tile in tiles if tile.thumbnails.super_resolved])
        for tile in tiles:
            n_taken -= bool(tile.thumbnails.super_resolved)
            yield tile if n_taken >= 0 else replace(tile, thumbnails=replace(tile.thumbnails, super_resolved=b""))
