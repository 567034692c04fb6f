"""The error of the percents against sampling theory and numbers worked by hand."""

import pytest

from wbctool.evaluation.percent_errors import PercentErrorReport, simulate_all_percent_errors, simulate_percent_errors
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.labels import CellClass
from wbctool.types.cells import Outcome, Prediction, Reason

NEUTROPHIL, LYMPHOCYTE, PLATELET = CellClass.NEUTROPHIL, CellClass.LYMPHOCYTE, CellClass.PLATELET
CLASSES = tuple(CellClass)


def cell(
    kind: CellClass | str, label: CellClass, group: str, outcome: Outcome = Outcome.COUNTED, found: bool = True
) -> EvaluatedCell:
    prediction = Prediction(label, 0.9, (), -3.0, outcome, Reason.NONE)
    return EvaluatedCell("lab", "a.jpg", group, kind, None, prediction, found)


def simulate(cells: list[EvaluatedCell], slide_cells: int = 100, n_slides: int = 300) -> PercentErrorReport:
    report = simulate_percent_errors(cells, CLASSES, slide_cells, n_slides)
    assert report is not None
    return report


def test_simulate_percent_errors_without_mistakes_leaves_sampling_alone() -> None:
    """Half neutrophils: the mean error of 100 cells is 5 * sqrt(2 / pi) = 3.99 points."""
    cells = [cell(label, label, str(n)) for n, label in enumerate([NEUTROPHIL, LYMPHOCYTE] * 20)]
    report = simulate(cells, n_slides=1000)
    error = report.classes["neutrophil"]
    assert report.mean_counted == 100
    assert error.true_percent == pytest.approx(50)
    assert error.mean_error == pytest.approx(3.99, abs=0.3)
    assert error.mean_error == pytest.approx(error.mean_sampling_error)
    assert error.within_interval >= 94
    assert simulate(cells, 200).classes["neutrophil"].mean_error == pytest.approx(3.99 / 2**0.5, abs=0.4)
    assert report.classes["basophil"].true_percent == 0
    assert report.classes["basophil"].within_interval == 100


def test_simulate_percent_errors_half_of_the_lymphocytes_in_review_biases_the_percents() -> None:
    """Of 20 neutrophils and 10 counted lymphocytes, a third is lymphocytes, and not a half: 16.7 points off."""
    cells = [cell(NEUTROPHIL, NEUTROPHIL, f"n{n}") for n in range(20)]
    outcomes = (Outcome.COUNTED, Outcome.NEEDS_REVIEW)
    cells += [cell(LYMPHOCYTE, LYMPHOCYTE, f"l{n}", outcomes[n % 2]) for n in range(20)]
    report = simulate(cells)
    assert report.mean_counted == pytest.approx(75, abs=1)
    assert report.classes["lymphocyte"].mean_error == pytest.approx(16.7, abs=1)
    assert report.classes["lymphocyte"].within_interval < 30


def test_simulate_percent_errors_groups_weigh_the_same() -> None:
    cells = [cell(NEUTROPHIL, NEUTROPHIL, "one")] * 30 + [cell(LYMPHOCYTE, LYMPHOCYTE, "other")]
    assert simulate(cells).classes["neutrophil"].true_percent == pytest.approx(50)


def test_simulate_percent_errors_true_percent_is_of_white_cells_and_missed_ones_count_nowhere() -> None:
    cells = [
        cell(NEUTROPHIL, NEUTROPHIL, "1"),
        cell(LYMPHOCYTE, LYMPHOCYTE, "2", found=False),
        cell(PLATELET, PLATELET, "3", Outcome.NOT_WBC),
        cell("blast", LYMPHOCYTE, "4"),
    ]
    report = simulate(cells)
    assert report.classes["neutrophil"].true_percent == pytest.approx(50)
    assert report.classes["neutrophil"].mean_error == pytest.approx(50)
    assert report.mean_counted == pytest.approx(100 / 3, abs=2)


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [cell(PLATELET, PLATELET, "1", Outcome.NOT_WBC)],
        [cell(NEUTROPHIL, NEUTROPHIL, "1", Outcome.NEEDS_REVIEW)],
        [cell("blast", NEUTROPHIL, "1")],
    ],
)
def test_simulate_percent_errors_without_counted_or_white_cells_is_none(cells: list[EvaluatedCell]) -> None:
    assert simulate_percent_errors(cells, CLASSES, 100, 5) is None
    assert simulate_all_percent_errors(cells, CLASSES) == ()


def test_simulate_percent_errors_classes_are_those_of_the_model() -> None:
    cells = [cell(NEUTROPHIL, NEUTROPHIL, "1"), cell(LYMPHOCYTE, NEUTROPHIL, "2")]
    report = simulate_percent_errors(cells, (NEUTROPHIL, PLATELET), 10, 5)
    assert report is not None
    assert list(report.classes) == ["neutrophil"]
