"""The analysis of one field of many tiles."""

from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from wbctool.errors import CellsTooSmall
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.pipeline.cell_worker import classify_fields
from wbctool.pipeline.context import RunContext
from wbctool.pipeline.field_source import ImageSource
from wbctool.pipeline.field_worker import analyze_field
from wbctool.settings import RunSettings, load_settings
from wbctool.types.cells import Slide


@pytest.fixture
def stages(tmp_path: Path) -> BoundStages:
    def detect_in_tiles(field, progress):
        tiles = [fakes.detect(field) for _ in progress(range(5), 5, "tiles")]
        return tiles[0]

    return replace(fakes.fake_stages(settings_of(tmp_path)), detect=detect_in_tiles)


@pytest.fixture
def context(tmp_path: Path, stages: BoundStages) -> RunContext:
    return RunContext(settings_of(tmp_path), stages.models)


def settings_of(folder: Path) -> RunSettings:
    return load_settings({"slides": folder, "out": folder / "counts.csv"})


def analyze(context: RunContext, stages: BoundStages, tmp_path: Path, cells: int = 3):
    path = fakes.draw_field(tmp_path / "s" / "pano.png", ["neutrophil"] * cells)
    return analyze_field(
        context, stages, Slide("s", path.parent, (path,)), ImageSource(path, context.settings.max_megapixels)
    )


def test_tiles_and_many_cells_are_tracked_under_the_fields_name(context, stages, tmp_path):
    tracked = []

    def track(items, total, description):
        tracked.append((total, description))
        return items

    context = replace(context, track=track)
    analysis = analyze(context, stages, tmp_path, cells=250)
    (classified,) = classify_fields(context, stages, [analysis])
    assert len(classified.cells) == 250
    assert [cell.index for cell in classified.cells] == list(range(1, 251))
    assert tracked == [(5, "pano.png: tiles"), (250, "pano.png: cells")]
    tracked.clear()
    classify_fields(context, stages, [analyze(context, stages, tmp_path)])
    assert tracked == [(5, "pano.png: tiles")]


def test_stop_within_a_field_leaves_it_without_a_failure(context, stages, tmp_path):
    taken = []

    def track(items, total, description):
        for item in items:
            taken.append(item)
            yield item

    context = replace(context, track=track, should_stop=lambda: len(taken) == 2)
    analysis = analyze(context, stages, tmp_path)
    assert taken == [0, 1]
    assert (analysis.failure, analysis.detections, analysis.quality) == (None, (), None)


def test_cells_too_small_to_be_seen_fail_the_field_by_name(context, stages, tmp_path):
    def detect(field, progress):
        raise CellsTooSmall("its red cells measure about 5 pixels")

    failure = analyze(context, replace(stages, detect=detect), tmp_path).failure
    assert (failure.field, failure.stage, failure.cause) == (
        "pano.png",
        "check",  # a stage of the file's defects: the next run does not look at it again
        "its red cells measure about 5 pixels",
    )
