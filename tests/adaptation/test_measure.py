import pytest

from wbctool.adaptation.measure import compare, find_doubtful_labels
from wbctool.labels import CellClass, UnknownKind
from wbctool.types.cells import Outcome, Prediction, Reason

NEUTROPHIL, LYMPHOCYTE = CellClass.NEUTROPHIL, CellClass.LYMPHOCYTE


def predict(label: CellClass, confidence: float, outcome: Outcome = Outcome.COUNTED, **more: object) -> Prediction:
    return Prediction(label, confidence, (confidence,), 0.0, outcome, Reason.NONE, **more)  # type: ignore[arg-type]


def review(label: CellClass, confidence: float) -> Prediction:
    return predict(label, confidence, Outcome.NEEDS_REVIEW)


def test_compare_counts_by_hand() -> None:
    labels = [NEUTROPHIL, NEUTROPHIL, LYMPHOCYTE, UnknownKind.BLAST]
    before = [predict(NEUTROPHIL, 0.9), review(LYMPHOCYTE, 0.6), predict(NEUTROPHIL, 0.8), predict(LYMPHOCYTE, 0.7)]
    after = [predict(NEUTROPHIL, 0.9), predict(NEUTROPHIL, 0.8), predict(LYMPHOCYTE, 0.9), review(LYMPHOCYTE, 0.5)]
    comparison = compare(labels, ["a", "a", "b", "c"], before, after)
    assert comparison is not None
    assert (comparison.before.accuracy.n, comparison.before.accuracy.total) == (1, 3)
    assert (comparison.after.accuracy.n, comparison.after.accuracy.total) == (3, 3)
    assert (comparison.before.silent_errors.n, comparison.before.silent_errors.total) == (2, 4)
    assert comparison.after.silent_errors.n == 0
    assert comparison.after.coverage.n == 3
    assert comparison.silent_errors_at_equal_coverage.n == 2  # the three surest before: right, wrong, wrong
    assert (comparison.test.wins, comparison.test.losses) == (2, 0)
    assert comparison.is_better


@pytest.mark.parametrize(
    "after",
    [
        pytest.param([predict(NEUTROPHIL, 0.9), predict(NEUTROPHIL, 0.9)], id="no label more is right"),
        pytest.param([predict(LYMPHOCYTE, 0.9), predict(LYMPHOCYTE, 0.9)], id="as many right, others"),
    ],
)
def test_compare_as_many_right_is_no_better(after: list[Prediction]) -> None:
    before = [predict(NEUTROPHIL, 0.9), review(NEUTROPHIL, 0.4)]
    comparison = compare([NEUTROPHIL, LYMPHOCYTE], ["a", "b"], before, after)
    assert comparison is not None
    assert not comparison.is_better


def test_compare_without_a_cell_of_a_class_is_impossible() -> None:
    assert compare([UnknownKind.SMUDGE], ["a"], [review(NEUTROPHIL, 0.5)], [review(NEUTROPHIL, 0.5)]) is None


def test_find_doubtful_labels_names_those_that_the_readers_surely_contradict() -> None:
    labels = [LYMPHOCYTE, LYMPHOCYTE, NEUTROPHIL, LYMPHOCYTE, "", LYMPHOCYTE]
    predictions = [predict(NEUTROPHIL, confidence) for confidence in (0.96, 0.75, 0.99, 0.99, 0.99)]
    predictions.append(predict(NEUTROPHIL, 0.99, unknown_kind=UnknownKind.BLAST))
    assert find_doubtful_labels(labels, predictions) == [3, 0]
