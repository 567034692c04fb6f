"""Whether the last slides are farther from what the models know than the first."""

import html
import json
import os
from dataclasses import replace

import fakes
import numpy as np
import pytest

from wbctool.limits import Limits
from wbctool.paths import THUMBNAILS_ZIP, OutputPaths
from wbctool.report.csv_tables import COUNTS_COLUMNS
from wbctool.store.drift import MAX_P, SLIDES_COMPARED, Drift, compare_first_and_last, find_drift
from wbctool.store.run_record import read_run_record, write_run_record
from wbctool.store.slide_record import SlideRecord
from wbctool.store.slide_writer import write_slide_files
from wbctool.store.status import format_status_json, format_status_text, read_report
from wbctool.types.results import SlideStatus
from wbctool.types.slides import Familiarity

SPREAD = 0.2  # of the logarithm of a slide's mean distance


def make_series(rng: np.random.Generator, slides: int, drift_per_slide: float = 0.0) -> np.ndarray:
    return 60 * np.exp(rng.normal(0, SPREAD, slides) + SPREAD * drift_per_slide * np.arange(slides))


def share_with_alarm(series: list[np.ndarray], look_every: int) -> float:
    """The share of series in which some look, one after every few slides, finds that the slides have wandered."""
    looks = range(2 * SLIDES_COMPARED, len(series[0]) + 1, look_every)
    alarms = ((compare_first_and_last(slides[:n].tolist()).has_wandered for n in looks) for slides in series)
    return float(np.mean([any(of_series) for of_series in alarms]))


@pytest.mark.slow
def test_compare_steady_slides_rarely_alarm_and_drifting_ones_do() -> None:
    rng = np.random.default_rng(0)
    steady = share_with_alarm([make_series(rng, 200) for _ in range(60)], look_every=5)
    drifting = share_with_alarm([make_series(rng, 200, drift_per_slide=0.02) for _ in range(10)], look_every=5)
    print(f"wandered by chance within 200 slides, 33 looks: {steady:.1%}; drifting by 4 deviations: {drifting:.1%}")
    assert steady <= 0.08
    assert drifting == 1


def test_compare_is_of_the_first_and_last_slides_alone() -> None:
    drift = compare_first_and_last([*range(20), *[500] * 7, *range(100, 120)])
    assert drift is not None
    assert (drift.slides, drift.first_mean, drift.last_mean, drift.has_wandered) == (47, 9.5, 109.5, True)
    assert drift.p < 1e-6


def test_compare_slides_that_come_nearer_have_not_wandered() -> None:
    drift = compare_first_and_last([*range(100, 120), *range(20)])
    assert drift is not None
    assert not drift.has_wandered


def test_compare_too_few_slides_say_nothing() -> None:
    assert compare_first_and_last([*range(39)]) is None


def test_sentence_says_what_to_do() -> None:
    sentence = Drift(60, 50.4, 71.2, MAX_P).sentence
    assert "mean distance 71, then 50" in sentence
    assert "check stain, lamp and camera" in sentence


@pytest.fixture
def output(run):
    assert run() == 0
    return OutputPaths(run.out)


def publish(output: OutputPaths, distances: dict[str, float], model: str = "a") -> None:
    """Publish slides that are processed in the order of the dictionary."""
    provenance = fakes.provenance()
    provenance = replace(provenance, models=(replace(provenance.models[0], sha256=model * 64),))
    for order, (slide, distance) in enumerate(distances.items()):
        counts = dict(zip(COUNTS_COLUMNS, (slide, "ok", *map(str, range(2, len(COUNTS_COLUMNS)))), strict=True))
        record = SlideRecord(
            slide=slide, status=SlideStatus.OK, fingerprint="f" * 64, fields=(), files={}, errors=(), counts=counts,
            limits=Limits(), provenance=provenance, familiarity=Familiarity(30, distance, 80, True),
        )  # fmt: skip
        write_slide_files(output, {THUMBNAILS_ZIP: b""}, record)
        os.utime(output.slide_file(slide, THUMBNAILS_ZIP), ns=(order, order))


# the ids run against the order of processing
DRIFTING = {f"t{99 - i}": 50.0 + i for i in range(45)}


def test_find_drift_goes_by_the_order_of_processing(output) -> None:
    publish(output, DRIFTING)
    drift = find_drift(output, [*sorted(DRIFTING), "not there"])
    assert drift is not None
    assert (drift.slides, drift.first_mean, drift.last_mean, drift.has_wandered) == (45, 59.5, 84.5, True)


def test_find_drift_counts_only_slides_of_the_last_models(output) -> None:
    publish(output, {f"a{i}": 10.0 for i in range(40)}, model="b")
    publish(output, dict(list(DRIFTING.items())[:39]))
    slides = [*(f"a{i}" for i in range(40)), *DRIFTING]
    for order, slide in enumerate(DRIFTING):
        if order < 39:
            os.utime(output.slide_file(slide, THUMBNAILS_ZIP), ns=(1000 + order, 1000 + order))
    assert find_drift(output, slides) is None


def test_status_has_the_drift(output) -> None:
    publish(output, DRIFTING)
    run = read_run_record(output)
    assert run.slides is not None
    slides = tuple(replace(run.slides[0], slide=slide) for slide in DRIFTING)
    write_run_record(output, replace(run, slides=slides))
    report = read_report(output)
    assert json.loads(format_status_json(report))["drift"] == {
        "slides": 45,
        "first_mean_distance": 59.5,
        "last_mean_distance": 84.5,
        "p": pytest.approx(report.drift.p),
        "has_wandered": True,
    }


def test_status_of_few_slides_has_no_drift(output) -> None:
    report = read_report(output)
    assert json.loads(format_status_json(report))["drift"] is None


def test_run_with_drift_says_so_in_status_and_on_the_index_page(run, monkeypatch) -> None:
    drift = Drift(60, 50.4, 71.2, MAX_P)
    monkeypatch.setattr("wbctool.pipeline.run.find_drift", lambda *_: drift)
    assert run() == 0
    output = OutputPaths(run.out)
    assert f"notice: {drift.sentence}" in format_status_text(read_report(output)).splitlines()
    assert drift.sentence in html.unescape(output.index_html.read_text())
