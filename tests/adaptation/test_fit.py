from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from wbctool.adaptation.fit import _judge_as_slide, adapt_readers, assign_folds, cross_validate
from wbctool.adaptation.readers import AdaptedReader, CellLabels, Reader
from wbctool.evaluation.silent_errors import is_silent_error
from wbctool.inference.adaptation_info import AdaptationMethod
from wbctool.inference.classifier_head import LastLayer
from wbctool.inference.familiarity_rule import FamiliarityRule, FeatureSpace
from wbctool.inference.model_card import ClassifierCard
from wbctool.inference.training_features import TrainingFeatures
from wbctool.labels import CellClass, UnknownKind
from wbctool.stages.familiarity import assess_familiarity, measure_familiarity, squared_distances
from wbctool.types.cells import Outcome, Prediction, Reason

CLASSES = (CellClass.NEUTROPHIL, CellClass.LYMPHOCYTE, CellClass.PLATELET)
RULE = FamiliarityRule(
    space=FeatureSpace.from_arrays(np.eye(3, dtype=np.float32), 10 * np.eye(3, dtype=np.float32)),
    max_mean_distance=4,
    min_cells=5,
    min_confidence=0.9,
)
CARD = ClassifierCard(
    name="classifier", version="0", file="classifier.onnx", sha256="0" * 64, parameters=0, tool_version="test",
    recipe="by hand", training={}, classes=CLASSES, input_px=128, crop_margin=1.25, temperature=1.0,
    confidence_threshold=0.5, familiarity=RULE,
)  # fmt: skip
RNG = np.random.default_rng(0)


def make_reader(labels: list[CellClass], positions: dict[CellClass, list[float]]) -> Reader:
    """A reader whose training has each class at ten on its own axis, and cells of a laboratory elsewhere."""
    features = np.array([positions[label] for label in labels], np.float32)
    features = features + RNG.normal(0, 0.3, (len(labels), 3)).astype(np.float32)
    training = TrainingFeatures(np.repeat(10 * np.eye(3, dtype=np.float32), 20, axis=0), np.repeat(np.arange(3), 20))
    return Reader(CARD, LastLayer(np.eye(3, dtype=np.float32), np.zeros(3, np.float32)), features, training)


def make_cell_labels(labels: Sequence[CellClass | UnknownKind], groups: int) -> CellLabels:
    everything = np.ones(len(labels), bool)
    by_group = tuple(str(i % groups) for i in range(len(labels)))
    return CellLabels(tuple(labels), by_group, np.ones(len(labels)), named=everything, drawn=everything)


LABELS = [CLASSES[i % 2] for i in range(60)]
SWAPPED = {CellClass.NEUTROPHIL: [2.0, 6.0, 3.0], CellClass.LYMPHOCYTE: [6.0, 2.0, -3.0]}


def test_cross_validate_swapped_classes_are_learned_and_counted() -> None:
    reader, cell_labels = make_reader(LABELS, SWAPPED), make_cell_labels(LABELS, 12)
    assert (reader.layer.compute_logits(reader.features).argmax(axis=1) == cell_labels.indices(CLASSES)).mean() == 0
    predictions = cross_validate([reader], cell_labels)
    assert [p.label for p in predictions] == LABELS
    assert Counter(p.outcome for p in predictions)[Outcome.COUNTED] >= 55


def test_cross_validate_labels_without_rhyme_are_not_learned() -> None:
    shuffled = [LABELS[i] for i in np.random.default_rng(1).permutation(len(LABELS))]
    reader = make_reader(LABELS, SWAPPED)
    predictions = cross_validate([reader], make_cell_labels(shuffled, 12))
    silent = sum(map(is_silent_error, predictions, shuffled))
    assert silent <= 0.2 * len(shuffled)  # the threshold keeps almost all of them in review


@pytest.mark.parametrize(("distance", "n_left"), [(0.0, 6), (5.0, 0)], ids=["familiar", "unfamiliar"])
def test_judge_as_slide_holds_back_cells_that_are_still_unfamiliar(distance: float, n_left: int) -> None:
    features = np.tile(np.array([[10, distance, 0]], np.float32), (6, 1))
    reader = make_reader(LABELS[:6], SWAPPED)
    adapted = AdaptedReader(CARD, reader.layer, features, 1.0)
    predictions = [Prediction(CellClass.NEUTROPHIL, 0.8, (0.8, 0.1, 0.1), 0.0, Outcome.COUNTED, Reason.NONE)] * 6
    judged = _judge_as_slide(predictions, [adapted], np.ones(6, bool))
    assert sum(p.outcome is Outcome.COUNTED for p in judged) == n_left


def test_adapt_readers_does_not_forget_a_class_that_the_laboratory_did_not_show() -> None:
    reader = make_reader(LABELS, SWAPPED)
    (adapted,) = adapt_readers([reader], make_cell_labels(LABELS, 12), np.ones(len(LABELS), bool))
    platelet_of_the_training = np.array([[0, 0, 10]], np.float32)
    assert adapted.layer.compute_logits(platelet_of_the_training).argmax() == 2


def test_adapt_readers_does_not_forget_a_kind_of_which_the_training_had_few() -> None:
    """Three blasts among a thousand replayed cells, near the place where the laboratory's lymphocytes are."""
    rng = np.random.default_rng(5)
    y_true = np.array([0, 1, 2] * 333 + [3] * 3)
    centers = np.array([[10, 0, 0], [0, 10, 0], [0, 0, 10], [0, 8, 8]], np.float32)
    features = centers[y_true] + rng.normal(0, 0.3, (len(y_true), 3)).astype(np.float32)
    card = CARD.model_copy(update={"unknown_kinds": (UnknownKind.BLAST,)})
    weight = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0.6, 0.6]], np.float32)
    laboratory = {CellClass.NEUTROPHIL: [8.0, 0.0, 2.0], CellClass.LYMPHOCYTE: [0.0, 8.0, 6.0]}
    reader = replace(
        make_reader(LABELS, laboratory),
        card=card,
        layer=LastLayer(weight, np.zeros(4, np.float32)),
        training=TrainingFeatures(features, y_true),
    )
    (adapted,) = adapt_readers([reader], make_cell_labels(LABELS, 12), np.ones(len(LABELS), bool))
    assert (adapted.layer.compute_logits(reader.features).argmax(axis=1) == np.arange(60) % 2).all()
    assert adapted.layer.compute_logits(centers[3:]).argmax() == 3


def test_adapt_readers_calibrates_on_cells_that_a_reader_named() -> None:
    """Of those that were left where they were, the label is the tool's own answer."""
    labels, groups = LABELS + [CLASSES[0]] * 60, 12
    reader = make_reader(labels, SWAPPED)
    named = np.arange(120) < 60
    cell_labels = replace(make_cell_labels(labels, groups), weights=np.where(named, 1.0, 1e-9), named=named)
    everything = np.ones(120, bool)
    (adapted,), (alone,) = (adapt_readers([reader], cell_labels, chosen) for chosen in (everything, named))
    for key in ("temperature", "energy_threshold", "confidence_threshold"):
        assert getattr(adapted.card, key) == pytest.approx(getattr(alone.card, key), abs=1e-3)


def test_adapt_readers_threshold_leaves_few_silent_errors_among_cells_drawn_at_random() -> None:
    """Two of 30 drawn cells lie among those of the other class; of 150 cells they are few enough."""
    labels = LABELS[:30] + [CLASSES[i % 2] for i in range(120)]
    reader = make_reader(labels, SWAPPED)
    features = reader.features.copy()
    features[[1, 4]] = SWAPPED[CLASSES[0]], SWAPPED[CLASSES[1]]
    reader = replace(reader, features=features)
    cell_labels = make_cell_labels(labels, 30)
    thresholds = []
    for n_drawn in (30, 0):
        of_draw = replace(cell_labels, drawn=np.arange(150) < n_drawn)
        (adapted,) = adapt_readers([reader], of_draw, np.ones(150, bool))
        thresholds.append(adapted.card.confidence_threshold)
    assert thresholds[0] > thresholds[1]


def test_adapt_readers_makes_the_laboratory_familiar_and_no_other() -> None:
    reader, cell_labels = make_reader(LABELS, SWAPPED), make_cell_labels(LABELS, 12)
    (adapted,) = adapt_readers([reader], cell_labels, np.ones(len(LABELS), bool))
    rule = adapted.card.familiarity
    assert rule is not None
    assert squared_distances(reader.features, RULE.space).mean() > RULE.max_mean_distance
    assert squared_distances(reader.features, rule.space).mean() <= rule.max_mean_distance
    other = np.array([[-8, -8, -8]] * 5, np.float32)
    assert squared_distances(other, rule.space).mean() > rule.max_mean_distance


def test_adapt_readers_makes_the_laboratory_familiar_to_each_reader_by_its_own_features() -> None:
    cell_labels, everything = make_cell_labels(LABELS, 12), np.ones(len(LABELS), bool)
    elsewhere = {CellClass.NEUTROPHIL: [-6.0, 2.0, 3.0], CellClass.LYMPHOCYTE: [2.0, -6.0, -3.0]}
    readers = [make_reader(LABELS, SWAPPED), make_reader(LABELS, elsewhere)]
    for reader, adapted in zip(readers, adapt_readers(readers, cell_labels, everything), strict=True):
        rule = adapted.card.familiarity
        assert rule is not None
        assert squared_distances(reader.features, RULE.space).mean() > RULE.max_mean_distance
        assert squared_distances(reader.features, rule.space).mean() <= rule.max_mean_distance
        predictions = [Prediction(CLASSES[0], 1.0, (1.0, 0.0, 0.0), 0.0, Outcome.COUNTED, Reason.NONE)] * len(LABELS)
        after = assess_familiarity(measure_familiarity(predictions, reader.features, rule), rule)
        assert after is not None
        assert after.is_familiar


def test_adapt_readers_threshold_of_the_second_is_that_of_the_reader_alone() -> None:
    cell_labels, everything = make_cell_labels(LABELS, 12), np.ones(len(LABELS), bool)
    readers = [make_reader(LABELS, SWAPPED), make_reader(LABELS, {label: [4.0, 4.0, 0.0] for label in SWAPPED})]
    first, second = adapt_readers(readers, cell_labels, everything)
    (alone,) = adapt_readers(readers[1:], cell_labels, everything)
    assert second.card.confidence_threshold == alone.card.confidence_threshold
    assert second.card.confidence_threshold > first.card.confidence_threshold  # it cannot tell the classes apart


def test_adapt_readers_does_not_make_a_third_laboratory_familiar_whose_cells_lie_among_spread_ones() -> None:
    rng, size = np.random.default_rng(3), 24
    means = np.zeros((3, size))
    means[:, :3] = 10 * np.eye(3)
    space = FeatureSpace.from_arrays(np.eye(size, dtype=np.float32), means.astype(np.float32))
    card = CARD.model_copy(update={"familiarity": RULE.model_copy(update={"space": space, "max_mean_distance": 30})})
    y_true = np.arange(90) % 3

    def draw(offset: float, spread: float) -> NDArray[np.float32]:
        features = means[y_true] + rng.normal(0, spread, (90, size))
        features[:, 3:] += offset
        return features.astype(np.float32)

    own, own_later, third, home = draw(1.5, 2.5), draw(1.5, 2.5), draw(0.7, 1.5), draw(0, 1)
    training = TrainingFeatures(home, y_true)
    reader = Reader(card, LastLayer(means.astype(np.float32), np.zeros(3, np.float32)), own, training)
    labels = [CLASSES[y] for y in y_true]
    (adapted,) = adapt_readers([reader], make_cell_labels(labels, 18), np.ones(90, bool))
    rule = adapted.card.familiarity
    assert rule is not None
    decisions = {}
    for name, features in {"own": own_later, "third": third, "home": home}.items():
        prediction = Prediction(CLASSES[0], 1.0, (1.0, 0.0, 0.0), 0.0, Outcome.COUNTED, Reason.NONE)
        predictions = measure_familiarity([prediction] * 90, features, rule)
        after = assess_familiarity(predictions, rule)
        assert after is not None
        assert after.mean_distance is not None
        assert after.mean_distance <= after.limit  # by distance alone all would be familiar
        decisions[name] = after.is_familiar
    assert decisions == {"own": True, "third": False, "home": True}
    assert squared_distances(third, space).mean() > 30  # unfamiliar before


def test_adapt_readers_does_not_look_at_labels_of_cells_that_are_not_chosen() -> None:
    cell_labels, reader = make_cell_labels(LABELS, 12), make_reader(LABELS, SWAPPED)
    chosen = np.array([int(group) < 9 for group in cell_labels.groups])
    others = tuple(label if c else CellClass.PLATELET for label, c in zip(LABELS, chosen, strict=True))
    one, two = (adapt_readers([reader], replace(cell_labels, labels=labels), chosen)[0] for labels in (LABELS, others))
    assert np.array_equal(one.layer.weight, two.layer.weight)
    assert one.card.model_dump() == two.card.model_dump()


@dataclass(frozen=True)
class FakeNetwork:
    layer: LastLayer
    features: NDArray[np.float32]

    def export(self) -> bytes:
        raise NotImplementedError


def memorize(_: LastLayer, y_true: NDArray[np.int64], weights: NDArray[np.float64]) -> FakeNetwork:
    """Tune a network that is sure of the cells that it was given, and as sure of any class for the others."""
    guessed = np.random.default_rng(int((y_true >= 0).sum())).integers(2, size=len(y_true))
    features = 10 * np.eye(3, dtype=np.float32)[np.where(y_true >= 0, y_true, guessed)]
    return FakeNetwork(LastLayer(np.eye(3, dtype=np.float32), np.zeros(3, np.float32)), features)


def test_cross_validate_a_tuned_reader_is_measured_on_cells_that_it_was_not_tuned_to() -> None:
    reader = replace(make_reader(LABELS, SWAPPED), tuner=memorize)
    cell_labels = make_cell_labels(LABELS, 12)
    predictions = cross_validate([reader], cell_labels)
    right = sum(p.label == label for p, label in zip(predictions, LABELS, strict=True))
    assert right < 0.75 * len(LABELS)
    assert sum(map(is_silent_error, predictions, LABELS)) <= 0.2 * len(LABELS)  # thresholds are of such cells too
    (adapted,) = adapt_readers([reader], cell_labels, np.ones(len(LABELS), bool))
    assert adapted.method is AdaptationMethod.DEEP
    assert adapted.card.temperature > 3  # on the cells that it memorized it could be sure


def test_adapt_readers_tuner_starts_from_the_fitted_layer_and_sees_the_chosen_cells_alone() -> None:
    reader, cell_labels = make_reader(LABELS, SWAPPED), make_cell_labels(LABELS, 12)
    chosen = np.array([int(group) < 9 for group in cell_labels.groups])
    (by_default,) = adapt_readers([reader], cell_labels, chosen)
    assert by_default.method is AdaptationMethod.DEFAULT
    calls = []

    def keep(layer: LastLayer, y_true: NDArray[np.int64], weights: NDArray[np.float64]) -> FakeNetwork:
        calls.append((layer, y_true >= 0))
        return FakeNetwork(layer, reader.features)

    (tuned,) = adapt_readers([replace(reader, tuner=keep)], cell_labels, chosen)
    assert tuned.card.model_dump() == by_default.card.model_dump()
    assert np.array_equal(calls[-1][0].weight, by_default.layer.weight)
    assert np.array_equal(calls[-1][1], chosen)
    assert np.array_equal(sum(learned.astype(int) for _, learned in calls[:-1]), 2 * chosen)  # two folds of three each


def test_assign_folds_divides_no_group_and_fills_evenly() -> None:
    groups = [str(i // 4) for i in range(40)]
    everything = np.ones(40, bool)
    folds = assign_folds(groups, everything, everything, 5)
    assert all(len({fold for fold, g in zip(folds, groups, strict=True) if g == group}) == 1 for group in groups)
    assert np.bincount(folds).tolist() == [8] * 5
    assert assign_folds(groups, np.array([False, True] * 20), everything, 5)[0] == -1


def test_assign_folds_divides_cells_of_known_classes_evenly_first() -> None:
    groups = [f"blasts {i // 100}" for i in range(400)] + [f"known {i // 3}" for i in range(30)]
    known = np.arange(430) >= 400
    folds = assign_folds(groups, np.ones(430, bool), known, 5)
    assert np.bincount(folds[known]).tolist() == [6] * 5
    assert sorted(np.bincount(folds[~known], minlength=5)) == [0, 100, 100, 100, 100]


def test_cross_validate_groups_without_a_known_cell_leave_no_fold_to_fail() -> None:
    labels = [UnknownKind.BLAST] * 120 + LABELS[:30]
    groups = tuple([f"blasts {i // 30}" for i in range(120)] + [f"known {i // 3}" for i in range(30)])
    reader = make_reader(labels, {**SWAPPED, UnknownKind.BLAST: [5.0, 5.0, 5.0]})
    predictions = cross_validate([reader], replace(make_cell_labels(labels, 1), groups=groups))
    assert [p.label for p in predictions[120:]] == LABELS[:30]


def test_adapt_readers_without_a_known_cell_keeps_temperature_and_energy_threshold() -> None:
    labels = [UnknownKind.BLAST] * 30
    reader = make_reader(labels, {UnknownKind.BLAST: [5.0, 5.0, 5.0]})
    (adapted,) = adapt_readers([reader], make_cell_labels(labels, 6), np.ones(30, bool))
    assert (adapted.card.temperature, adapted.card.energy_threshold) == (CARD.temperature, CARD.energy_threshold)
