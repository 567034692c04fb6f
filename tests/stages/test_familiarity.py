"""Whether a slide is familiar, and which cells of another one are counted."""

import numpy as np
import pytest
from pydantic import ValidationError

from wbctool.inference.familiarity_rule import FamiliarityRule, FeatureSpace, OwnLaboratory
from wbctool.labels import CellClass
from wbctool.stages.familiarity import (
    assess_familiarity,
    familiarity_flags,
    measure_familiarity,
    measure_offset,
    send_unsure_to_review,
    squared_distances,
)
from wbctool.types.cells import Outcome, Prediction, Reason

SPACE = FeatureSpace.from_arrays(np.diag([1.0, 0.5]).astype(np.float32), np.array([[0, 0], [4, 0]], np.float32))
RULE = FamiliarityRule(space=SPACE, max_mean_distance=100, min_cells=3, min_confidence=0.9)


def _prediction(
    distance: float = 50,
    confidence: float = 0.95,
    reason: Reason = Reason.NONE,
    outcome: Outcome = Outcome.COUNTED,
) -> Prediction:
    return Prediction(CellClass.NEUTROPHIL, confidence, (confidence,), 0.0, outcome, reason, distance=distance)


def test_rule_for_one_reader_demands_its_own_confidence_or_counts_no_cell() -> None:
    unfamiliar = assess_familiarity([_prediction(distance=200)] * 3, RULE)
    cells = [_prediction(confidence=0.95), _prediction(confidence=0.99), _prediction(confidence=0.999)]

    def count(rule: FamiliarityRule) -> int:
        return [p.outcome for p in send_unsure_to_review(cells, unfamiliar, rule)].count(Outcome.COUNTED)

    alone = RULE.model_copy(update={"min_confidence_alone": 0.98})
    assert (count(alone), count(alone.for_one_reader()), count(RULE.for_one_reader())) == (3, 2, 0)


def test_squared_distances_of_a_cell_do_not_depend_on_the_cells_beside_it() -> None:
    rng = np.random.default_rng(0)
    whitening, centers = rng.normal(size=(256, 128)), rng.normal(size=(5, 128))
    space = FeatureSpace.from_arrays(whitening.astype(np.float32), centers.astype(np.float32))
    features = rng.normal(size=(64, 256)).astype(np.float32)
    alone = [squared_distances(features[i : i + 1], space).item() for i in range(len(features))]
    assert squared_distances(features, space).tolist() == alone


def test_squared_distances_are_to_the_nearest_class_in_the_whitened_space() -> None:
    # (1, 2) is mapped to (1, 1): 2 from the first mean and 10 from the second. (5, -4) to (5, -2): 29 and 5.
    assert squared_distances(np.array([[1, 2], [5, -4]], np.float32), SPACE).tolist() == [2, 5]


def test_feature_space_that_does_not_fit_is_refused() -> None:
    content = SPACE.model_dump()
    with pytest.raises(ValidationError, match="does not fit"):
        FeatureSpace.model_validate(content | {"features": 3})


def test_assess_familiarity_averages_each_cells_own_distance() -> None:
    familiarity = assess_familiarity([_prediction(d) for d in (20, 60, 220)], RULE)
    assert familiarity is not None
    assert (familiarity.cells, familiarity.mean_distance, familiarity.is_familiar) == (3, 100, True)


def test_assess_familiarity_far_cells_are_unfamiliar() -> None:
    familiarity = assess_familiarity([_prediction(d) for d in (20, 60, 221)], RULE)
    assert familiarity is not None
    assert familiarity.is_familiar is False
    assert familiarity_flags(familiarity) == {"unfamiliar"}


def test_assess_familiarity_too_few_cells_leave_it_open() -> None:
    familiarity = assess_familiarity([_prediction(1000)] * 2, RULE)
    assert familiarity is not None
    assert familiarity.is_familiar is None
    assert familiarity_flags(familiarity) == set()


def test_assess_familiarity_strange_colors_need_no_cells() -> None:
    for predictions in ([], [_prediction()]):
        familiarity = assess_familiarity(predictions, RULE, [True, True])
        assert familiarity is not None
        assert familiarity.is_familiar is False
        assert familiarity_flags(familiarity)


@pytest.mark.parametrize(("out_of_range", "expected"), [([True, False], True), ([True, True, False], False)])
def test_assess_familiarity_strange_stain_in_most_fields_is_unfamiliar(
    out_of_range: list[bool], expected: bool
) -> None:
    familiarity = assess_familiarity([_prediction()] * 3, RULE, out_of_range)
    assert familiarity is not None
    assert familiarity.is_familiar is expected


def test_assess_familiarity_without_a_rule_is_none() -> None:
    assert assess_familiarity([_prediction()] * 3, None) is None


def test_measure_offset_divides_the_mean_offset_by_what_chance_gives_it() -> None:
    # Offsets (1, 0) and (1, 2): mean (1, 1), squared 2. Variance 2; by chance that of the mean, 2 / 2, and of the
    # center, 2 / 2.
    positions, center = np.array([[1, 0], [1, 2]], np.float32), np.zeros((1, 2), np.float32)
    assert measure_offset(positions, center, [2]) == pytest.approx(1)
    assert measure_offset(positions, center, [10**9]) == pytest.approx(2)  # a center that is known for certain


def test_measure_offset_of_the_laboratorys_cells_is_about_one_whatever_their_classes() -> None:
    rng, n = np.random.default_rng(0), 12
    truth = np.array([[0] * 32, [20] * 32])
    offsets: dict[str, list[float]] = {"both": [], "one": [], "third": []}
    for _ in range(100):
        centers = np.stack([rng.normal(mean, size=(n, 32)).mean(axis=0) for mean in truth]).astype(np.float32)
        slides = {"both": truth[rng.integers(2, size=60)], "one": truth[np.zeros(60, int)]}
        slides["third"] = slides["both"] + np.eye(32)[0] * 3
        for name, means in slides.items():
            offsets[name].append(measure_offset(rng.normal(means).astype(np.float32), centers, [n, n]))
    assert np.mean(offsets["both"]) == pytest.approx(1, abs=0.1)
    assert np.mean(offsets["one"]) == pytest.approx(1, abs=0.1)
    assert min(offsets["third"]) > max(offsets["both"])


OWN = RULE.model_copy(
    update={
        "space": FeatureSpace.from_arrays(np.eye(2, dtype=np.float32), np.array([[50, 0], [0, 0]], np.float32)),
        "own_laboratory": OwnLaboratory(cells_by_center=(20,), max_offset=2.5, max_training_distance=5),
    }
)


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([[3, 0], [-3, 0], [0, 3], [0, -3]], True),  # around the laboratory's cells
        ([[3, 2], [3, 3], [3, 4], [4, 3]], False),  # beside them
        ([[52, 0], [50, 1], [51, 0], [50, 2]], True),  # beside those of the training, but near
        ([[56, 0], [55, 1], [56, 0], [55, 2]], False),
    ],
)
def test_assess_familiarity_of_an_adapted_model_is_of_its_laboratory_and_the_training(
    cells: list[list[float]], expected: bool
) -> None:
    predictions = measure_familiarity([_prediction()] * 4, np.array(cells, np.float32), OWN)
    familiarity = assess_familiarity(predictions, OWN)
    assert familiarity is not None
    assert familiarity.mean_distance is not None
    assert familiarity.mean_distance <= familiarity.limit  # so the offset decides
    assert (familiarity.is_familiar, familiarity.offset_limit) == (expected, 2.5)


@pytest.mark.parametrize(("max_distance", "expected"), [(9.0, True), (8.9, False)])
def test_assess_familiarity_of_an_adapted_model_is_of_slides_near_its_laboratory(
    max_distance: float, expected: bool
) -> None:
    """A third laboratory's cells may lie around those of the laboratory, but farther away."""
    assert OWN.own_laboratory is not None
    rule = OWN.model_copy(
        update={"own_laboratory": OWN.own_laboratory.model_copy(update={"max_distance": max_distance})}
    )
    cells = np.array([[3, 0], [-3, 0], [0, 3], [0, -3]], np.float32)
    familiarity = assess_familiarity(measure_familiarity([_prediction()] * 4, cells, rule), rule)
    assert familiarity is not None
    assert familiarity.is_familiar is expected


def test_rule_without_a_laboratory_is_written_as_before() -> None:
    assert set(RULE.model_dump()) == {"space", "max_mean_distance", "min_cells", "min_confidence"}
    assert FamiliarityRule.model_validate(OWN.model_dump()).model_dump() == OWN.model_dump()
    no_centers = {"cells_by_center": (1, 1), "max_offset": 2.5, "max_training_distance": 5}
    with pytest.raises(ValidationError, match="no centers of the training"):
        FamiliarityRule.model_validate(OWN.model_dump() | {"own_laboratory": no_centers})


def test_send_unsure_to_review_on_a_familiar_slide_changes_nothing() -> None:
    cells = [_prediction(confidence=0.5), _prediction(149)] * 2
    assert send_unsure_to_review(cells, assess_familiarity(cells, RULE), RULE) == cells


@pytest.mark.parametrize(
    ("cell", "is_counted"),
    [(_prediction(1000, 0.9), True), (_prediction(confidence=0.89), False)],
)
def test_send_unsure_to_review_on_another_slide_counts_what_passes_the_stricter_rule(
    cell: Prediction, is_counted: bool
) -> None:
    (held,) = send_unsure_to_review([cell], assess_familiarity([cell], RULE), RULE)  # one cell decides nothing
    assert (held.outcome is Outcome.COUNTED) is is_counted
    assert (held.reason is Reason.UNFAMILIAR_SLIDE) is not is_counted


@pytest.mark.parametrize(
    ("reason", "outcome", "expected"),
    [
        (Reason.OUT_OF_DISTRIBUTION, Outcome.NEEDS_REVIEW, Reason.OUT_OF_DISTRIBUTION),
        (Reason.DISAGREEMENT, Outcome.NEEDS_REVIEW, Reason.UNFAMILIAR_SLIDE),
        (Reason.LOW_CONFIDENCE, Outcome.NEEDS_REVIEW, Reason.UNFAMILIAR_SLIDE),
        (Reason.PLATELET, Outcome.NOT_WBC, Reason.UNFAMILIAR_SLIDE),
    ],
)
def test_send_unsure_to_review_gives_the_reason_that_has_precedence(
    reason: Reason, outcome: Outcome, expected: Reason
) -> None:
    cell = _prediction(confidence=0.5, reason=reason, outcome=outcome)
    (held,) = send_unsure_to_review([cell], assess_familiarity([cell], RULE), RULE)
    assert (held.outcome, held.reason) == (Outcome.NEEDS_REVIEW, expected)
