"""The flag possible_blasts on simulated slides, against numbers worked by hand."""

import pytest

from wbctool.evaluation.blast_flag import simulate_blast_flags
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.labels import CellClass, UnknownKind
from wbctool.types.cells import Outcome, Prediction, Reason

LYMPHOCYTE, BLAST = CellClass.LYMPHOCYTE, UnknownKind.BLAST


def cell(
    kind: CellClass | str, group: str, is_possible: bool = False, found: bool = True, dataset: str = "lab"
) -> EvaluatedCell:
    outcome, reason = (Outcome.NEEDS_REVIEW, Reason.POSSIBLE_BLAST) if is_possible else (Outcome.COUNTED, Reason.NONE)
    return EvaluatedCell(
        dataset, "a.jpg", group, kind, None, Prediction(LYMPHOCYTE, 0.9, (), -3.0, outcome, reason), found
    )


def test_simulate_blast_flags_two_of_five_are_needed() -> None:
    """Half of the blasts are seen: of five, two or more are in 26 of 32 draws."""
    cells = [cell(LYMPHOCYTE, str(n)) for n in range(10)]
    cells += [cell(BLAST, f"b{n}", is_possible=n % 2 == 0) for n in range(10)]
    (report,) = simulate_blast_flags(cells)
    assert (report.dataset, report.white_cells, report.blasts) == ("lab", 10, 10)
    assert report.flagged_without == 0
    assert report.flagged_by_blasts == pytest.approx(26 / 32, abs=0.05)


def test_simulate_blast_flags_false_alarms_of_white_cells() -> None:
    """One of a hundred is taken for a blast: two or more of a hundred draws are, in 26.4 % of the slides."""
    cells = [cell(LYMPHOCYTE, str(n), is_possible=n == 0) for n in range(100)]
    (report,) = simulate_blast_flags(cells)
    assert report.flagged_without == pytest.approx(0.264, abs=0.05)
    assert report.flagged_by_blasts is None


def test_simulate_blast_flags_cell_that_is_not_found_raises_nothing() -> None:
    cells = [cell(LYMPHOCYTE, "1"), cell(BLAST, "2", is_possible=True, found=False)]
    (report,) = simulate_blast_flags(cells)
    assert report.flagged_by_blasts == 0


def test_simulate_blast_flags_data_without_white_cells_have_no_report() -> None:
    assert simulate_blast_flags([cell(BLAST, "1", dataset="blasts"), cell(CellClass.PLATELET, "2")]) == ()
