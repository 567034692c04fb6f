"""The survey of a scan: which of its zones are looked at, in a fixed order, the best monolayer first.

Zones that are glass, edge or thick are passed over by a small picture of each. The others are looked at in rounds that
are spread over the scan, a part of each zone; each round's zones come in the order of how good they are. The next round
begins only if the zones so far did not have enough cells.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from wbctool.errors import FieldTooLarge, FieldUnreadable
from wbctool.imaging.resize import downscale
from wbctool.imaging.scan import Level, Scan
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.field_source import FailedSource, ZoneSource, name_zone
from wbctool.pipeline.ordered_map import map_ordered
from wbctool.pipeline.scan_scale import find_scale
from wbctool.stages.monolayer import OVERVIEW_PX, Overview, judge_overview, judge_red_cells, measure_overview
from wbctool.stages.quality import measure_coverage
from wbctool.stages.tiles import Tile, divide_into_tiles
from wbctool.store.hash_cache import FieldHashes
from wbctool.types.cells import RED_CELL_UM, Box, Field, Slide
from wbctool.types.progress import no_progress
from wbctool.types.scans import PassedOver, ScaleSource, ScanSummary

log = logging.getLogger(__name__)

ZONE_UM = 200.0  # the side of a zone's core: about an oil immersion field
_MARGIN_UM = 2.5 * RED_CELL_UM  # around the core: no cell is longer than five red cells
_SLACK_UM = 0.25 * RED_CELL_UM  # how far two zones may disagree about the center of a cell
_CELL_UM_PER_PX = 0.14  # finer pixels show the classifier no more: a crop of 18 µm has its 128 pixels
_LOOK_UM, _LOOK_PX = 80.0, 320  # the part of a zone that is looked at: some 50 red cells of 30 pixels
_ROUND_ZONES = 96

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
Source = ZoneSource | FailedSource


@dataclass(frozen=True, slots=True)
class _Grid:
    """The zones of a scan and how they are read."""

    tiles: tuple[Tile, ...]
    level: Level
    slack_px: float
    um_per_px: float
    scale_source: ScaleSource


@dataclass(slots=True)
class ScanSurvey:
    """The survey of one scan.

    Attributes:
        context: The run.
        stages: The stages with their models.
        slide: The scan.
        files: Name and SHA-256 of its files.
        pool: Its threads look at several zones at a time.
    """

    context: RunContext
    stages: BoundStages
    slide: Slide
    files: FieldHashes
    pool: Executor
    _scan: Scan | None = None
    _grid: _Grid | None = None
    _passed_over_by_overview: Counter[PassedOver] = field(default_factory=Counter)
    _passed_over_by_round: list[Counter[PassedOver]] = field(default_factory=list)
    _seconds: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of the scan's file."""
        return self.slide.fields[0].name

    @property
    def seconds(self) -> float:
        """The time that it has taken so far, summed over the threads."""
        return sum(self._seconds)

    def iter_zones(self) -> Iterator[Source]:
        """Yield the zones to look at; in place of a scan that cannot be looked at, what fails in its name.

        Nothing is raised. If the run is stopped, the iterator ends.
        """
        try:
            yield from self._iter_zones()
        except Exception as error:  # any error is this scan's alone
            yield FailedSource(self.name, error, len(self._passed_over_by_round) - 1)

    def summarize(self, n_looked_at: int, last_round: int) -> ScanSummary:
        """Return what was done with the scan.

        Args:
            n_looked_at: The number of zones that were looked at.
            last_round: The round of the last of them; later ones may have begun, and do not count.
        """
        if self._scan is None or self._grid is None:
            return ScanSummary(self.name, self.files)
        grid = self._grid
        return ScanSummary(
            file=self.name,
            files=self.files,
            width=self._scan.width,
            height=self._scan.height,
            um_per_px=grid.um_per_px,
            scale_source=grid.scale_source,
            downsample=grid.level.downsample,
            zones=len(grid.tiles),
            zones_looked_at=n_looked_at,
            passed_over=self._count_passed_over(last_round + 1),
        )

    def _count_passed_over(self, n_rounds: int) -> dict[PassedOver, int]:
        """Return the number of zones that the overview and the first rounds have passed over, by reason."""
        counts = sum(self._passed_over_by_round[:n_rounds], self._passed_over_by_overview)
        return {reason: counts[reason] for reason in PassedOver if counts[reason]}

    def _iter_zones(self) -> Iterator[Source]:
        """Yield the zones; raises what keeps the scan from being looked at."""
        scan = self._scan = Scan(self.slide.fields[0])
        grid = self._grid = self._make_grid(scan)
        overviews = dict(self._map(partial(self._overview, scan), grid.tiles, "zones"))
        brightest = max((o.brightness.max() for o in overviews.values() if isinstance(o, Overview)), default=0.0)
        candidates: list[Tile] = []
        failed: list[Source] = []
        for tile, overview in overviews.items():
            if isinstance(overview, Exception):
                failed.append(FailedSource(name_zone(tile), overview))
            elif reason := judge_overview(overview, brightest):
                self._passed_over_by_overview[reason] += 1
            else:
                candidates.append(tile)
        log.info("scan %r: %d of %d zones may be a monolayer", self.name, len(candidates), len(grid.tiles))
        yield from failed  # damage is told, however many cells the other zones have
        n_rounds = -(-len(candidates) // _ROUND_ZONES)
        n_good = 0
        for index in range(n_rounds):
            for zone in self._survey_round(scan, grid, candidates[index::n_rounds], index):
                n_good += 1
                yield zone
        if not n_good and not failed and not self.context.should_stop():
            reasons = ", ".join(f"{n} {reason}" for reason, n in self._count_passed_over(n_rounds).items())
            raise FieldUnreadable(f"no zone of the scan shows red cells side by side: {reasons}")

    def _make_grid(self, scan: Scan) -> _Grid:
        """Divide the scan into zones."""
        metadata = self.context.metadata.get(self.slide.id)
        um_per_px, source = find_scale(scan, metadata.um_per_px if metadata else None, self.stages.detect)
        level = scan.choose_level(_CELL_UM_PER_PX / um_per_px)
        step = max(1, round(level.downsample))  # zones begin at whole pixels of the level
        margin_px = _MARGIN_UM / um_per_px
        longest_px = (self.context.settings.max_megapixels * 1e6) ** 0.5 * level.downsample - 2 * step
        side_px = min(ZONE_UM / um_per_px + 2 * margin_px, longest_px)
        if side_px < 3 * margin_px:
            raise FieldTooLarge(f"max_megapixels = {self.context.settings.max_megapixels:g} leaves no zone of a scan")
        bounds = scan.bounds
        tiles = divide_into_tiles(bounds.width, bounds.height, side_px, margin_px, step)
        moved = tuple(Tile(_move(t.frame, bounds), _move(t.core, bounds), t.margin_px) for t in tiles)
        return _Grid(moved, level, _SLACK_UM / um_per_px, um_per_px, source)

    def _survey_round(self, scan: Scan, grid: _Grid, tiles: Sequence[Tile], index: int) -> Iterator[Source]:
        """Look at the red cells of some zones; yield those that fail, then those that are good, the best first."""
        found = list(self._map(partial(self._look, scan, grid.um_per_px), tiles, "zones by their red cells"))
        passed_over, good = Counter[PassedOver](), list[tuple[float, Tile]]()
        self._passed_over_by_round.append(passed_over)
        for tile, verdict in found:
            if isinstance(verdict, Exception):
                yield FailedSource(name_zone(tile), verdict, index)
            elif isinstance(verdict, PassedOver):
                passed_over[verdict] += 1
            else:
                good.append((verdict, tile))
        good.sort(key=lambda pair: (-pair[0], pair[1].core.y, pair[1].core.x))
        log.info("scan %r: %d of %d zones are good", self.name, len(good), len(found))
        level, slack_px = grid.level, grid.slack_px
        # By the red cells' own size their size cannot be judged.
        is_measured = grid.scale_source is not ScaleSource.RED_CELLS
        um_per_px = grid.um_per_px * level.downsample if is_measured else None
        for _, tile in self.context.track(good, len(good), f"{self.name}: good zones"):
            yield ZoneSource(scan, tile, level, slack_px, um_per_px, index)

    def _map(
        self, func: Callable[[_Item], _Result], items: Sequence[_Item], description: str
    ) -> Iterator[tuple[_Item, _Result | Exception]]:
        """Apply a function to zones in the pool, in order, with progress, until the run is stopped.

        An error that lies in the scan's file takes the place of a result.
        """

        def try_one(item: _Item) -> _Result | Exception:
            start_s = time.perf_counter()
            try:
                return func(item)
            except FieldUnreadable as error:
                return error
            finally:
                self._seconds.append(time.perf_counter() - start_s)

        tracked: Iterable[_Item] = self.context.track(items, len(items), f"{self.name}: {description}")
        going_on = itertools.takewhile(lambda _: not self.context.should_stop(), tracked)
        yield from map_ordered(self.pool, try_one, going_on, 2 * self.context.settings.workers)

    def _overview(self, scan: Scan, tile: Tile) -> Overview:
        """Measure the small picture of a zone."""
        level = scan.choose_level(min(tile.frame.width, tile.frame.height) / OVERVIEW_PX)
        return measure_overview(scan.read(tile.frame, level))

    def _look(self, scan: Scan, um_per_px: float, tile: Tile) -> PassedOver | float:
        """Judge the middle of a zone by its red cells."""
        stages, limits = self.stages, self.context.limits_for(self.slide.id)
        side = min(round(_LOOK_UM / um_per_px), tile.frame.width, tile.frame.height)
        x, y = (round(center - side / 2) for center in tile.frame.center)
        rgb = scan.read(Box(x, y, side, side), scan.choose_level(max(1.0, side / _LOOK_PX)))
        if rgb.shape[0] > _LOOK_PX:
            rgb = downscale(rgb, _LOOK_PX, _LOOK_PX)
        part = Field(name_zone(tile), rgb)
        detections = stages.detect(part, no_progress)
        coverage = measure_coverage(part, detections)
        return judge_red_cells(detections, rgb.shape[0] * rgb.shape[1], coverage, limits.max_coverage)


def _move(box: Box, by: Box) -> Box:
    """Return a box of the scanned part in pixels of level 0."""
    return Box(box.x + by.x, box.y + by.y, box.width, box.height)
