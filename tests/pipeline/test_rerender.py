"""Changes of limits or metadata alone: the tables and the report follow, and no image is looked at again."""

import json

import pytest

from wbctool.paths import OutputPaths
from wbctool.pipeline.run import StopRequest
from wbctool.store.run_record import read_run_record

WORDS = {
    "accession": ("slide,accession\ns10,H-2041\n", {}),
    "line gone": ("slide,accession\ns2,H-1\n", {}),
    "analyzer": ("slide,accession,analyser_wbc,age\ns10,H-1,7.2,40\ns2,,7.2,3\n", {}),
    "adult": (None, {"adult": True}),
    "adult by age": ("slide,age\ns10,40\n", {"adult": True}),
    "counts and ranges": (
        "slide,analyser_wbc\ns10,11\n",
        {"low_count_below": 10, "adult": True, "reference_ranges": {"neutrophil": [1, 2]}, "reference_source": "ours"},
    ),
    "shares": (None, {"high_review_share": 0.9, "out_of_domain_share": 1, "min_nrbc": 4}),
}


@pytest.fixture
def first(run):
    """A run with a line for s10."""
    (run.root / "slides.csv").write_text("slide,accession\ns10,H-1\n")
    run()
    return run


def write_words(run, table):
    if table is None:
        (run.root / "slides.csv").unlink()
    else:
        (run.root / "slides.csv").write_text(table)


@pytest.mark.parametrize("change", WORDS)
def test_other_words_give_the_bytes_of_a_fresh_run_without_looking_at_an_image(first, change):
    table, settings = WORDS[change]
    write_words(first, table)
    assert first(**settings) == 0
    assert first.looked == []
    fresh = type(first)(first.root, first.out.parent.parent / "fresh" / "counts.csv")
    fresh(**settings)
    assert first.tree() == fresh.tree()
    assert {slide.done_in_run for slide in read_run_record(OutputPaths(first.out)).slides} == {False}
    before = first.tree()
    first(**settings)
    assert first.tree() == before


def test_other_words_on_results_of_an_earlier_version_look_at_no_image(first, make_former):
    make_former(first)
    first(adult=True)
    assert first.looked == []
    assert "ARUP" in (first.folder / "s10" / "report.html").read_text()


def test_altered_cells_are_processed_again_and_not_rendered(first):
    (first.folder / "s2" / "cells.csv").write_text("altered")
    first(adult=True)
    assert sorted(first.looked) == ["f1.png", "f2.png"]


@pytest.mark.parametrize("killed_at", ["differential.csv", "cells.csv", "report.html", "slide.json"])
@pytest.mark.parametrize("back", [False, True])
def test_run_killed_while_it_renders_is_resumed(first, monkeypatch, kill_at, killed_at, back):
    before = first.tree()
    kill_at(killed_at)
    with pytest.raises(KeyboardInterrupt):
        first(adult=True)
    monkeypatch.undo()
    assert first(adult=not back) == 0
    fresh = type(first)(first.root, first.out.parent.parent / "fresh" / "counts.csv")
    fresh(adult=not back)
    assert first.tree() == fresh.tree()
    assert (first.tree() == before) is back


def test_stopped_run_leaves_what_it_has_not_rendered_waiting(first):
    class StopAfterPlan(StopRequest):
        n_asked = 0

        def __call__(self):
            self.n_asked += 1
            self.signal = 15 if self.n_asked > len(first.rows()) else None  # the plan asks once a slide
            return self.signal is not None

    first.stop = StopAfterPlan()
    assert first(adult=True) == 128 + 15
    assert {row["status"] for row in first.rows().values()} == {"waiting"}
    first.stop = StopRequest()
    assert first(adult=True) == 0
    assert {row["status"] for row in first.rows().values()} == {"ok"}
    assert first.looked == []


def test_settle_comes_before_other_words(first):
    assert first(adult=True, settle_s=3600) == 0
    assert {row["status"] for row in first.rows().values()} == {"waiting"}
    assert json.loads((first.folder / "s2" / "slide.json").read_text())["limits"]["adult"] is False
