"""Silent errors and unknown kinds against numbers worked by hand."""

import csv

import pytest

from wbctool.evaluation.silent_errors import (
    EvaluatedCell,
    evaluated_cells_csv,
    summarize_silent_errors,
    summarize_unknown_kinds,
)
from wbctool.labels import CellClass, Subtype
from wbctool.types.cells import Outcome, Prediction, Reason

NEUTROPHIL, LYMPHOCYTE, ERYTHROBLAST, PLATELET = (
    *(CellClass.NEUTROPHIL, CellClass.LYMPHOCYTE, CellClass.ERYTHROBLAST, CellClass.PLATELET),
)
COUNTED, REVIEW, NOT_WBC = Outcome.COUNTED, Outcome.NEEDS_REVIEW, Outcome.NOT_WBC
CLASSES = tuple(CellClass)


def cell(
    kind: CellClass | str,
    label: CellClass,
    outcome: Outcome = COUNTED,
    found: bool = True,
    group: str = "g",
    dataset: str = "lab",
) -> EvaluatedCell:
    prediction = Prediction(label, 0.9, (0.9, 0.1), -3.0, outcome, Reason.NONE)
    return EvaluatedCell(dataset, "a.jpg", group, kind, None, prediction, found)


@pytest.mark.parametrize(
    ("evaluated", "silent"),
    [
        (cell(NEUTROPHIL, NEUTROPHIL), False),
        (cell(NEUTROPHIL, LYMPHOCYTE), True),
        (cell(NEUTROPHIL, LYMPHOCYTE, REVIEW), False),
        (cell(NEUTROPHIL, ERYTHROBLAST, NOT_WBC), True),
        (cell(NEUTROPHIL, LYMPHOCYTE, found=False), False),
        (cell(ERYTHROBLAST, ERYTHROBLAST, NOT_WBC), False),
        (cell(ERYTHROBLAST, PLATELET, NOT_WBC), False),
        (cell(ERYTHROBLAST, LYMPHOCYTE), True),
        (cell(PLATELET, LYMPHOCYTE), True),
        (cell("blast", LYMPHOCYTE), True),
        (cell("blast", LYMPHOCYTE, REVIEW), False),
    ],
)
def test_is_silent_error_is_wrong_and_no_reader_is_asked(evaluated: EvaluatedCell, silent: bool) -> None:
    assert evaluated.is_silent_error is silent


def test_summarize_silent_errors_counts_each_share_of_its_cells() -> None:
    cells = [
        *(cell(NEUTROPHIL, NEUTROPHIL, group=str(n)) for n in range(4)),
        cell(NEUTROPHIL, LYMPHOCYTE, group="4"),
        cell(NEUTROPHIL, LYMPHOCYTE, REVIEW, group="5"),
        cell(NEUTROPHIL, ERYTHROBLAST, NOT_WBC, group="6"),
        cell(NEUTROPHIL, NEUTROPHIL, found=False, group="7"),
        cell(ERYTHROBLAST, ERYTHROBLAST, NOT_WBC, group="8"),
        cell(PLATELET, PLATELET, NOT_WBC, found=False, group="9"),
        cell("blast", LYMPHOCYTE, group="10"),  # in the other table
    ]
    (report,) = summarize_silent_errors(cells, CLASSES)
    assert (report.cells, report.n_groups, report.missed) == (10, 10, 1)
    assert (report.silent_errors.n, report.silent_errors.total) == (2, 10)
    assert (report.coverage.n, report.coverage.total) == (5, 10)
    assert report.coverage_white_cells
    assert (report.coverage_white_cells.n, report.coverage_white_cells.total) == (5, 8)
    assert (report.accuracy.n, report.accuracy.total) == (7, 10)
    assert report.accuracy_counted
    assert (report.accuracy_counted.n, report.accuracy_counted.total) == (4, 5)


def test_summarize_silent_errors_interval_is_by_group() -> None:
    cells = [cell(NEUTROPHIL, NEUTROPHIL if n < 50 else LYMPHOCYTE, group=str(n // 50)) for n in range(100)]
    (report,) = summarize_silent_errors(cells, CLASSES)
    assert (report.silent_errors.low, report.silent_errors.high) == (0.0, 100.0)


def test_summarize_silent_errors_nothing_counted_has_no_accuracy_of_the_counted() -> None:
    (report,) = summarize_silent_errors([cell(PLATELET, PLATELET, NOT_WBC)], CLASSES)
    assert (report.accuracy_counted, report.coverage_white_cells) == (None, None)


def test_summarize_silent_errors_by_data_set() -> None:
    reports = summarize_silent_errors(
        [cell(NEUTROPHIL, NEUTROPHIL, dataset=name) for name in ("pbc", "krd", "pbc")], CLASSES
    )
    assert [(r.dataset, r.cells) for r in reports] == [("krd", 1), ("pbc", 2)]


def test_summarize_unknown_kinds_shares_add_up() -> None:
    cells = [
        cell("blast", LYMPHOCYTE),
        cell("blast", NEUTROPHIL),
        cell("blast", LYMPHOCYTE),
        cell("blast", LYMPHOCYTE, REVIEW),
        cell("blast", ERYTHROBLAST, NOT_WBC),
        cell("blast", LYMPHOCYTE, found=False),
        cell("smudge", LYMPHOCYTE, REVIEW),
        cell(NEUTROPHIL, NEUTROPHIL),
    ]
    blast, smudge = summarize_unknown_kinds(cells, CLASSES)
    assert (blast.kind, blast.cells, blast.counted.n, blast.review, blast.not_wbc, blast.missed) == (
        *("blast", 6, 3, 1, 1, 1),
    )
    assert blast.counted_as == {"lymphocyte": 2, "neutrophil": 1}
    assert (smudge.kind, smudge.counted.n, smudge.review) == ("smudge", 0, 1)


def test_summaries_of_a_shorter_card_take_its_missing_class_for_an_unknown_kind() -> None:
    cells = [cell(PLATELET, NEUTROPHIL, found=False), cell(NEUTROPHIL, NEUTROPHIL)]
    classes = (NEUTROPHIL, LYMPHOCYTE)
    assert [(r.kind, r.missed) for r in summarize_unknown_kinds(cells, classes)] == [("platelet", 1)]
    assert [r.cells for r in summarize_silent_errors(cells, classes)] == [1]


def test_evaluated_cells_csv_has_a_row_for_each_cell() -> None:
    prediction = Prediction(LYMPHOCYTE, 0.75, (0.25, 0.75), -2.5, REVIEW, Reason.LOW_CONFIDENCE)
    evaluated = EvaluatedCell("=lab", "a,b.jpg", "7", "blast", Subtype.MONOBLAST, prediction, True)
    (row,) = csv.DictReader(evaluated_cells_csv([evaluated], (NEUTROPHIL, LYMPHOCYTE)).splitlines())
    assert row == {
        "dataset": "'=lab",
        "image": "a,b.jpg",
        "group": "7",
        "kind": "blast",
        "subtype": "monoblast",
        "found": "true",
        "label": "lymphocyte",
        "confidence": "0.7500",
        "energy": "-2.5000",
        "outcome": "review",
        "reason": "low_confidence",
        "p_neutrophil": "0.2500",
        "p_lymphocyte": "0.7500",
        "predicted_subtype": "",
    }
