"""What `wbctool adapt` reads, on runs with fake stages: 15 cells of two slides."""

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import fakes
import pytest
from typer.testing import CliRunner

from wbctool.adaptation.cells import merge_cells
from wbctool.adaptation.labels_file import NoClass, format_labels, read_labels
from wbctool.adaptation.published_cells import PublishedCells
from wbctool.adaptation.sources import merge_shared_slides, read_sources
from wbctool.cli import app
from wbctool.errors import LabelledDataInvalid
from wbctool.labels import CellClass
from wbctool.types.cells import Box

MODELS = SimpleNamespace(classifier=SimpleNamespace(card=SimpleNamespace(crop_margin=1.0)))


def read(*sources, slides=None):
    return read_sources(sources, MODELS, slides)


@pytest.fixture
def every_cell(monkeypatch):
    """Let cells that look alike stay, which the fake stages' cells of one class do."""
    monkeypatch.setattr("wbctool.adaptation.sources.merge_cells", lambda cells: cells)


@pytest.fixture
def others(draw, tmp_path, run):
    """Results of a second run, on slides of its own: s2 with two cells in one field."""
    draw(tmp_path / "others" / "slides" / "s2" / "f1.png", ["basophil", "platelet"])
    draw(tmp_path / "others" / "slides" / "s3" / "f1.png", ["eosinophil"])
    other = type(run)(tmp_path / "others" / "slides", tmp_path / "others" / "counts.csv")
    other()
    return other


def change(path, label_of, **changes):
    """Change the labels of a file; a cell whose label is None is left out."""
    labels = read_labels(path)
    cells = [replace(cell, label=label) for cell in labels.cells if (label := label_of(cell)) is not None]
    path.write_bytes(format_labels(replace(labels, cells=tuple(cells), **changes)))


def review(run, folder, moves):
    """Apply a review of CD to s2; moves are rows with what they were and are called."""
    fields = {1: ("f1.png", 1), 2: ("f1.png", 2), 3: ("f2.png", 1)}
    content = {
        "schema": "wbctool-review/1",
        "slide": "s2",
        "results": fakes.hash_cells(run.folder / "s2" / "cells.csv"),
        "reader": "CD",
        "time": "2026-01-02T03:04:05.678Z",
        "comment": "",
        "cells": [
            {"row": row, "field": fields[row][0], "cell": fields[row][1], "from": was, "to": to, "comment": ""}
            for row, was, to in moves
        ],
    }
    path = folder / "review.json"
    path.write_text(json.dumps(content))
    applied = CliRunner().invoke(app, ["review", "apply", str(run.out), str(path)])
    assert applied.exit_code == 0, applied.output


def test_labels_hold_after_a_run_with_other_models(run, label_all, every_cell):
    run()
    labels = label_all(run.out)
    before = read(run.out, labels)
    run.model = "cd" * 32
    run.classify = lambda rgb: tuple(fakes.predict("basophil") for _ in rgb)
    run()
    assert ",basophil," in (run.folder / "s2" / "cells.csv").read_text()
    after = read(run.out, labels)
    assert [(cell.label, cell.sha256) for cell in after.cells] == [(cell.label, cell.sha256) for cell in before.cells]
    assert len(after.cells) == 15
    assert after.notes == ()


def test_labels_of_a_field_that_is_gone_are_left_out_with_a_note(run, label_all, draw, every_cell):
    run()
    labels = label_all(run.out)
    draw(run.root / "s2" / "f2.png", ["platelet"])
    run()
    laboratory = read(run.out, labels)
    assert len(laboratory.cells) == 14
    assert laboratory.notes == (
        f"{labels}: 1 labeled cell left out, because their fields are not in the results: s2/f2.png",
    )


def test_labels_of_a_slide_that_is_gone_are_left_out_with_a_note(run, label_all, every_cell):
    run()
    labels = label_all(run.out)
    shutil.rmtree(run.root / "s10")
    shutil.rmtree(run.folder / "s10")
    laboratory = read(run.out, labels)
    assert len(laboratory.cells) == 3
    assert "12 labeled cells left out" in laboratory.notes[0]


def test_labels_of_a_field_with_a_new_name_hold(run, label_all, every_cell):
    run()
    labels = label_all(run.out)
    (run.root / "s2" / "f2.png").rename(run.root / "s2" / "f3.png")
    run()
    laboratory = read(run.out, labels)
    assert laboratory.notes == ()
    assert sum("field 'f3.png'" in cell.origin for cell in laboratory.cells) == 1


def test_labels_of_wholly_other_results_are_refused(run, label_all, others):
    run()
    labels = label_all(run.out)
    with pytest.raises(LabelledDataInvalid, match=r"labels\.json: none of the fields of its cells .* such as s2/f1"):
        read(others.out, labels)


def test_reviewed_cells_count_beside_named_ones_which_win(run, label_all, tmp_path, every_cell):
    """Row 1 is named otherwise than reviewed, row 2 is reviewed alone, and row 3 the reader of the page cannot tell."""
    run()
    labels = label_all(run.out)
    review(run, tmp_path, [(1, "neutrophil", "basophil"), (2, "lymphocyte", "monocyte"), (3, "review", "eosinophil")])
    names = {("f1.png", 1): CellClass.ERYTHROBLAST, ("f2.png", 1): NoClass.CANNOT_TELL}
    change(labels, lambda cell: names.get((cell.field, cell.cell)) if cell.slide == "s2" else None)
    laboratory = read(run.out, labels)
    assert [(cell.label, cell.origin) for cell in laboratory.cells] == [
        (CellClass.ERYTHROBLAST, f"slide 's2', field 'f1.png', at 8, 8, named by AB in {labels}"),
        (CellClass.MONOCYTE, "slide 's2', field 'f1.png', at 40, 8, reviewed by CD"),
    ]
    assert laboratory.labeled_by == ("AB", "CD")


def test_two_halves_of_a_page_are_one(run, label_all, every_cell):
    run()
    first, second = label_all(run.out, "first.json"), label_all(run.out, "second.json")
    change(first, lambda cell: cell.label if cell.slide == "s2" else None)
    change(second, lambda cell: cell.label if cell.slide == "s10" else None)
    laboratory = read(run.out, first, second)
    assert len(laboratory.cells) == 15
    assert laboratory.notes == ()


@pytest.mark.parametrize("order", [1, -1])
def test_of_two_names_of_one_reader_and_page_the_later_counts(run, label_all, every_cell, order):
    """The file that was saved last has the earlier name: it is of a computer on which the cell was not named again."""
    run()
    first, second = label_all(run.out, "first.json"), label_all(run.out, "second.json")
    labels = read_labels(first)
    renamed = replace(labels.cells[0], label=CellClass.PLATELET, time=labels.created + timedelta(hours=1))
    first.write_bytes(format_labels(replace(labels, cells=(renamed, *labels.cells[1:]))))
    change(second, lambda cell: cell.label, created=labels.created + timedelta(hours=2))
    laboratory = read(run.out, *[first, second][::order])
    at_cell = [cell for cell in laboratory.cells if "slide 's2', field 'f1.png', at 8, 8," in cell.origin]
    assert [cell.label for cell in at_cell] == [CellClass.PLATELET]
    assert f"in {first}" in at_cell[0].origin
    assert laboratory.notes == (
        f"1 label of {second} left out: the same reader gave these cells other names later, in {first}",
    )


def test_two_readers_that_differ_are_both_named(run, label_all):
    run()
    own, others = label_all(run.out, "own.json"), label_all(run.out, "others.json", reader="CD")
    change(others, lambda cell: CellClass.BASOPHIL if (cell.slide, cell.field) == ("s2", "f2.png") else cell.label)
    with pytest.raises(LabelledDataInvalid) as caught:
        read(run.out, own, others)
    assert str(caught.value) == (
        f"1 cell labeled twice, differently: monocyte (slide 's2', field 'f2.png', at 8, 8, named by AB in {own}) but "
        f"basophil (slide 's2', field 'f2.png', at 8, 8, named by CD in {others})"
    )


def test_conflicts_that_are_not_named_are_counted_by_slide(run, label_all, monkeypatch, every_cell):
    monkeypatch.setattr("wbctool.adaptation.cells._MAX_CONFLICTS_NAMED", 1)
    run()
    cells = read(run.out, label_all(run.out)).cells
    unlike = [cell for cell in cells if cell.label is not CellClass.NEUTROPHIL]
    with pytest.raises(LabelledDataInvalid, match=r"; and 4 more, by slide: s2 \(1\), s10 \(3\)$"):
        merge_cells([*unlike, *(replace(cell, label=CellClass.BASOPHIL) for cell in unlike)])


@pytest.mark.parametrize("box", [Box(5000, 5000, 16, 16), Box(8, 8, 10**6, 10**6), Box(312, 8, 40, 16)])
def test_box_outside_its_field_is_refused_with_file_and_cell(run, label_all, box):
    run()
    path = label_all(run.out)
    labels = read_labels(path)
    wrong = replace(labels.cells[0], box=box)
    path.write_bytes(format_labels(replace(labels, cells=(wrong, *labels.cells[1:]))))
    place = f"slide 's2', field 'f1.png', at {box.x}, {box.y}, named by AB in {path}: a box of "
    with pytest.raises(LabelledDataInvalid, match="does not lie in the field, which has 320 × 32") as caught:
        read(run.out, path)
    assert str(caught.value).startswith(place)


def test_slides_of_different_results_are_different_groups(run, label_all, others, every_cell):
    run()
    laboratory = read(run.out, others.out, label_all(run.out, "a.json"), label_all(others.out, "b.json"))
    assert len({cell.group for cell in laboratory.cells}) == 4
    assert {cell.group for cell in laboratory.cells} >= {"s10", "s3"}


def test_slide_that_two_runs_share_is_one_group_under_either_name(run, label_all, tmp_path, every_cell):
    """The labeled fields of the two are different ones of the slide."""
    run()
    (tmp_path / "wards").mkdir()
    shutil.copytree(run.root, tmp_path / "wards" / "ward3")
    outer = type(run)(tmp_path / "wards", tmp_path / "outer" / "counts.csv")
    outer()
    inside, outside = label_all(run.out, "a.json"), label_all(outer.out, "b.json")
    change(inside, lambda cell: cell.label if cell.field == "f2.png" else None)
    change(outside, lambda cell: cell.label if cell.slide == "ward3/s2" and cell.field == "f1.png" else None)
    laboratory = read(run.out, outer.out, inside, outside)
    assert len(laboratory.cells) == 3
    assert {cell.group for cell in laboratory.cells} == {"s2"}


def test_groups_do_not_depend_on_the_order_of_the_results(run, label_all, others, every_cell):
    run()
    files = label_all(run.out, "a.json"), label_all(others.out, "b.json")
    one, other = read(run.out, others.out, *files), read(others.out, run.out, *files)
    assert {cell.origin: cell.group for cell in one.cells} == {cell.origin: cell.group for cell in other.cells}


def test_regroup_of_nothing_is_nothing():
    assert merge_shared_slides([PublishedCells((), (), (), {})]) == []


def test_fields_that_moved_are_read_from_slides_and_the_others_from_where_they_were(
    run, label_all, others, tmp_path, every_cell
):
    run()
    files = label_all(run.out, "a.json"), label_all(others.out, "b.json")
    shutil.move(run.root, tmp_path / "moved")
    laboratory = read(run.out, others.out, *files, slides=tmp_path / "moved")
    assert len(laboratory.cells) == 18
    assert laboratory.notes == ()
