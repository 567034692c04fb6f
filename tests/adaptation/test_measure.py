import pytest

from wbctool.adaptation.measure import Comparison, Refusal, compare, find_doubtful_labels
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
    assert (comparison.before.accuracy.n, comparison.before.accuracy.total) == (1, 3)
    assert (comparison.after.accuracy.n, comparison.after.accuracy.total) == (3, 3)
    assert (comparison.before.silent_errors.n, comparison.before.silent_errors.total) == (2, 4)
    assert comparison.after.silent_errors.n == 0
    assert comparison.after.coverage.n == 3
    assert comparison.silent_errors_at_equal_coverage.n == 2  # the three surest before: right, wrong, wrong
    assert (comparison.test.wins, comparison.test.losses) == (2, 0)
    assert (comparison.majority_test.wins, comparison.majority_test.losses, comparison.majority_test.p) == (1, 0, 1)


def compare_many(n_right: int, n_other: int) -> Comparison:
    """Compare readers that are never right with some that are right on 40 cells of two classes."""
    labels = [LYMPHOCYTE if i < n_other else NEUTROPHIL for i in range(40)]
    after = [
        predict(label, 0.9) if i < n_right else review(NEUTROPHIL if label is LYMPHOCYTE else LYMPHOCYTE, 0.4)
        for i, label in enumerate(labels)
    ]
    before = [review(CellClass.MONOCYTE, 0.3)] * 40
    return compare(labels, list(map(str, range(40))), before, after)


@pytest.mark.parametrize(
    ("n_right", "n_other", "is_better"),
    [
        pytest.param(13, 20, False, id="noise: more right than none, fewer than by the commonest class"),
        pytest.param(22, 20, False, id="two more than by the commonest class may be chance"),
        pytest.param(38, 20, True, id="surely more"),
        pytest.param(40, 3, False, id="so few cells of another class show nothing"),
        pytest.param(40, 5, True, id="five of another class are enough"),
    ],
)
def test_compare_readers_must_know_more_than_the_commonest_class(n_right: int, n_other: int, is_better: bool) -> None:
    comparison = compare_many(n_right, n_other)
    assert comparison.before.accuracy.n == 0
    assert comparison.after.accuracy.n == n_right
    assert comparison.refusal is (None if is_better else Refusal.MAJORITY_CLASS)


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
    assert not comparison.is_better


def test_compare_as_many_right_and_more_counted_is_better() -> None:
    """Readers that name every cell rightly, but hold most back in a laboratory that is strange to them."""
    labels = [NEUTROPHIL, LYMPHOCYTE] * 8
    groups = [str(i) for i in range(16)]
    comparison = compare(labels, groups, [review(x, 0.8) for x in labels], [predict(x, 0.9) for x in labels])
    assert comparison.is_better
    assert not compare(labels, groups, [predict(x, 0.9) for x in labels], [review(x, 0.8) for x in labels]).is_better


BOTH = [NEUTROPHIL, LYMPHOCYTE] * 50


def compare_outcomes(labels: list[CellClass], before: list[Prediction], after: list[Prediction]) -> Comparison:
    return compare(labels, list(map(str, range(len(labels)))), before, after)


def test_compare_one_more_label_right_but_no_cell_counted_is_no_better() -> None:
    before = [predict(LYMPHOCYTE, 0.5, Outcome.NEEDS_REVIEW), *[predict(x, 0.9) for x in BOTH[1:]]]
    comparison = compare_outcomes(BOTH, before, [review(x, 0.8) for x in BOTH])
    assert comparison.refusal is Refusal.FEWER_COUNTED


def test_compare_fewer_counted_is_better_if_fewer_errors_are_silent() -> None:
    before = [*[predict(LYMPHOCYTE, 0.99)] * 20, *[predict(x, 0.9) for x in BOTH[20:]]]
    after = [review(x, 0.6) for x in BOTH[:30]] + [predict(x, 0.9) for x in BOTH[30:]]
    assert compare_outcomes(BOTH, before, after).refusal is None


@pytest.mark.parametrize(("n_silent", "refusal"), [(5, None), (6, Refusal.SILENT_ERRORS)])
def test_compare_more_than_two_percent_silent_by_more_than_chance_are_refused(
    n_silent: int, refusal: Refusal | None
) -> None:
    """At equal coverage the shipped readers would leave as many, but they ask a reader."""
    wrong = [LYMPHOCYTE if x is NEUTROPHIL else NEUTROPHIL for x in BOTH]
    before = [review(x, 0.9) for x in wrong[:10]] + [review(x, 0.8) for x in BOTH[10:]]
    after = [predict(x, 0.9) for x in wrong[:n_silent]] + [predict(x, 0.9) for x in BOTH[n_silent:]]
    assert compare_outcomes(BOTH, before, after).refusal is refusal


def test_compare_a_class_that_is_lost_is_refused() -> None:
    basophil = CellClass.BASOPHIL
    labels = [basophil] * 6 + BOTH
    before = [predict(basophil, 0.9)] * 6 + [review(NEUTROPHIL, 0.6)] * 100
    after = [review(NEUTROPHIL, 0.5)] * 6 + [predict(x, 0.9) for x in BOTH]
    comparison = compare_outcomes(labels, before, after)
    assert comparison.lost_classes == ("basophil",)
    assert comparison.refusal is Refusal.LOST_CLASS


def test_compare_at_equal_coverage_white_cells_filed_as_no_white_cell_stay_errors() -> None:
    """They are no cells that more coverage could count, however sure the readers are."""
    labels = [NEUTROPHIL] * 4 + [LYMPHOCYTE, LYMPHOCYTE]
    platelet = predict(CellClass.PLATELET, 0.99, Outcome.NOT_WBC)
    before = [platelet, platelet, predict(NEUTROPHIL, 0.9), review(NEUTROPHIL, 0.8), review(NEUTROPHIL, 0.7), platelet]
    after = [predict(label, 0.9) for label in labels[:3]] + [review(label, 0.5) for label in labels[3:]]
    comparison = compare(labels, list("abcdef"), before, after)
    # Three are counted: right, right, wrong; and three platelets are white cells.
    assert comparison.silent_errors_at_equal_coverage.n == 4
    assert comparison.before.silent_errors.n == 3


def test_compare_without_a_cell_of_a_class_is_impossible() -> None:
    with pytest.raises(ValueError, match="no cell is of a class"):
        compare([UnknownKind.SMUDGE], ["a"], [review(NEUTROPHIL, 0.5)], [review(NEUTROPHIL, 0.5)])


def test_find_doubtful_labels_names_those_that_the_readers_surely_contradict() -> None:
    labels = [LYMPHOCYTE, LYMPHOCYTE, NEUTROPHIL, LYMPHOCYTE, "", LYMPHOCYTE]
    predictions = [predict(NEUTROPHIL, confidence) for confidence in (0.96, 0.75, 0.99, 0.99, 0.99)]
    predictions.append(predict(NEUTROPHIL, 0.99, unknown_kind=UnknownKind.BLAST))
    assert find_doubtful_labels(labels, predictions) == [3, 0]
