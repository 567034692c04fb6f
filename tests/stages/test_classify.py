"""From logits to a decision, by hand."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from wbctool.errors import ModelMismatch
from wbctool.inference.model_card import ClassifierCard, CompactCard
from wbctool.labels import CellClass, Subtype, UnknownKind
from wbctool.stages.classify import classify_cells, combine_readings, name_subtypes, predictions_from_logits
from wbctool.types.cells import Outcome, Prediction, Reason

CLASSES = (CellClass.NEUTROPHIL, CellClass.LYMPHOCYTE, CellClass.ERYTHROBLAST, CellClass.PLATELET)


def _card(**changes: object) -> ClassifierCard:
    facts = {
        "name": "classifier", "version": "1", "file": "classifier.onnx", "sha256": "0" * 64, "parameters": 1,
        "tool_version": "1", "recipe": "test", "training": {}, "classes": CLASSES, "input_px": 128,
        "crop_margin": 1.25, "temperature": 1.0, "confidence_threshold": 0.6, "energy_threshold": -1.0,
    }  # fmt: skip
    return ClassifierCard.model_validate(facts | changes)


def _decide(logits: list[float], **changes: object) -> tuple[CellClass, Outcome, Reason]:
    (p,) = predictions_from_logits(np.array([logits], np.float32), _card(**changes))
    return p.label, p.outcome, p.reason


def test_triage_confident_leukocyte_is_counted() -> None:
    assert _decide([9, 0, 0, 0]) == (CellClass.NEUTROPHIL, Outcome.COUNTED, Reason.NONE)


def test_triage_low_confidence_is_reviewed_with_its_most_probable_class() -> None:
    assert _decide([5, 4.9, 0, 0]) == (CellClass.NEUTROPHIL, Outcome.NEEDS_REVIEW, Reason.LOW_CONFIDENCE)


@pytest.mark.parametrize(
    ("logits", "label", "reason"),
    [
        ([0, 0, 9, 0], CellClass.ERYTHROBLAST, Reason.ERYTHROBLAST),
        ([0, 0, 0, 9], CellClass.PLATELET, Reason.PLATELET),
    ],
)
def test_triage_erythroblast_and_platelet_are_not_wbc(logits: list[float], label: CellClass, reason: Reason) -> None:
    assert _decide(logits) == (label, Outcome.NOT_WBC, reason)


def test_triage_low_confidence_platelet_is_reviewed() -> None:
    assert _decide([0, 4.9, 0, 5])[1:] == (Outcome.NEEDS_REVIEW, Reason.LOW_CONFIDENCE)


def test_triage_high_energy_is_out_of_distribution_at_any_confidence() -> None:
    # logsumexp of (2, -9, -9, -9) is 2.00005: energy -2.0, above a threshold of -3, though the confidence is 0.99995.
    assert _decide([2, -9, -9, -9], energy_threshold=-3.0)[1:] == (Outcome.NEEDS_REVIEW, Reason.OUT_OF_DISTRIBUTION)
    assert _decide([2, -9, -9, -9], energy_threshold=None)[1:] == (Outcome.COUNTED, Reason.NONE)


def test_predictions_from_logits_divides_by_temperature() -> None:
    (p,) = predictions_from_logits(np.array([[2.0, 0.0, -90.0, -90.0]], np.float32), _card(temperature=2.0))
    assert p.confidence == pytest.approx(math.e / (math.e + 1))
    assert sum(p.probabilities) == pytest.approx(1.0)


def test_classify_cells_without_cells_returns_nothing() -> None:
    assert classify_cells(np.empty((0, 128, 128, 3), np.uint8), None) == ()  # type: ignore[arg-type]


class NamedOutputs:
    """A classifier that remembers the outputs it is asked for; the map of class k is filled with k."""

    def __init__(self, *output_names: str) -> None:
        self.card, self.asked = _card(), list[tuple[str, ...]]()
        self.output_names = output_names

    def run(self, rgb: np.ndarray, *outputs: str) -> tuple[np.ndarray, ...]:
        self.asked.append(outputs)
        arrays = {
            "cam": np.arange(4, dtype=np.uint8).repeat(4).reshape(1, 4, 2, 2).repeat(len(rgb), axis=0),
            "logits": np.array([[0, 2, 0, 0], [0, 0, 0, 9]], np.float32)[: len(rgb)],
        }
        return tuple(arrays[name] for name in outputs)


def test_classify_cells_asks_for_the_logits_alone() -> None:
    model: Any = NamedOutputs("logits", "features", "cam")
    (prediction,) = classify_cells(np.zeros((1, 128, 128, 3), np.uint8), model)
    assert model.asked == [("logits",)]
    assert (prediction.label, prediction.cam) == (CellClass.LYMPHOCYTE, b"")


def test_classify_cells_with_cam_gives_the_map_of_each_cells_label() -> None:
    model: Any = NamedOutputs("logits", "features", "cam")
    predictions = classify_cells(np.zeros((2, 128, 128, 3), np.uint8), model, with_cam=True)
    assert [prediction.label for prediction in predictions] == [CellClass.LYMPHOCYTE, CellClass.PLATELET]
    assert [prediction.cam for prediction in predictions] == [bytes([1] * 4), bytes([3] * 4)]


def test_classify_cells_with_cam_of_two_readers_gives_the_first_ones_map_of_their_common_label() -> None:
    first: Any = NamedOutputs("logits", "cam")
    second: Any = NamedOutputs("logits", "cam")
    second.run = lambda rgb, *outputs: (np.array([[9, 0, 0, 0]], np.float32),)
    (prediction,) = classify_cells(np.zeros((1, 128, 128, 3), np.uint8), first, second, with_cam=True)
    assert (prediction.label, prediction.cam) == (CellClass.NEUTROPHIL, bytes(4))


def test_classify_cells_with_cam_of_a_model_without_maps_gives_none() -> None:
    model: Any = NamedOutputs("logits", "features", "last_map")
    (prediction,) = classify_cells(np.zeros((1, 128, 128, 3), np.uint8), model, with_cam=True)
    assert model.asked == [("logits",)]
    assert prediction.cam == b""


def test_predictions_from_logits_with_nan_raises_model_mismatch() -> None:
    with pytest.raises(ModelMismatch, match="non-finite values"):
        predictions_from_logits(np.array([[np.nan, 0.0, 0.0, 0.0]], np.float32), _card())


def _read(logits: list[float], **changes: object) -> Prediction:
    (prediction,) = predictions_from_logits(np.array([logits], np.float32), _card(**changes))
    return prediction


def test_combine_readings_same_label_is_counted_with_the_mean_probabilities() -> None:
    first, second = _read([9, 0, 0, 0]), _read([8, 0, 0, 0])
    combined = combine_readings(first, second, _card())
    assert (combined.outcome, combined.reason) == (Outcome.COUNTED, Reason.NONE)
    assert combined.confidence == (first.confidence + second.confidence) / 2
    assert combined.probabilities[1] == (first.probabilities[1] + second.probabilities[1]) / 2


def test_combine_readings_surer_reader_names_the_cell() -> None:
    unsure, sure = _read([2, 1, 0, 0]), _read([0, 9, 0, 0])
    assert combine_readings(unsure, sure, _card()).label is sure.label
    assert combine_readings(sure, unsure, _card()).label is sure.label


def test_combine_readings_other_label_is_reviewed_as_a_disagreement() -> None:
    combined = combine_readings(_read([9, 0, 0, 0]), _read([0, 9, 0, 0]), _card())
    assert (combined.label, combined.outcome, combined.reason) == (
        CellClass.NEUTROPHIL,
        Outcome.NEEDS_REVIEW,
        Reason.DISAGREEMENT,
    )


def test_combine_readings_erythroblast_against_leukocyte_is_reviewed() -> None:
    combined = combine_readings(_read([0, 0, 9, 0]), _read([0, 9, 0, 0]), _card())
    assert (combined.outcome, combined.reason) == (Outcome.NEEDS_REVIEW, Reason.DISAGREEMENT)


def test_combine_readings_confidence_of_both_decides() -> None:
    """One reader gives the class 0.48, the other 0.83: together 0.66."""
    doubtful, sure = _read([2.0, 1.9, 0, 0]), _read([4, 2, 0, 0])
    for first, second in [(doubtful, sure), (sure, doubtful)]:
        combined = combine_readings(first, second, _card(confidence_threshold=0.7))
        assert combined.confidence == pytest.approx(0.66, abs=0.01)
        assert combined.reason is Reason.LOW_CONFIDENCE
        assert combine_readings(first, second, _card(confidence_threshold=0.6)).outcome is Outcome.COUNTED


def test_combine_readings_only_the_first_reader_finds_a_cell_out_of_distribution() -> None:
    doubtful, sure = _read([0.9, -9, -9, -9]), _read([9, 0, 0, 0])
    assert combine_readings(doubtful, sure, _card()).reason is Reason.OUT_OF_DISTRIBUTION
    assert combine_readings(sure, doubtful, _card()).outcome is Outcome.COUNTED


@pytest.mark.parametrize(("logits", "reason"), [([0, 0, 9, 0], Reason.ERYTHROBLAST), ([0, 0, 0, 9], Reason.PLATELET)])
def test_combine_readings_what_both_take_for_no_white_cell_is_none(logits: list[float], reason: Reason) -> None:
    combined = combine_readings(_read(logits), _read(logits), _card())
    assert (combined.outcome, combined.reason) == (Outcome.NOT_WBC, reason)


def test_combine_readings_out_of_distribution_precedes_disagreement() -> None:
    combined = combine_readings(_read([0.9, -9, -9, -9]), _read([0, 9, 0, 0]), _card())
    assert combined.reason is Reason.OUT_OF_DISTRIBUTION


KINDS = {"unknown_kinds": (UnknownKind.BLAST, UnknownKind.SMUDGE)}


@pytest.mark.parametrize(
    ("logits", "kind", "reason"),
    [
        ([5, 0, 0, 0, 6, 0], UnknownKind.BLAST, Reason.POSSIBLE_BLAST),
        ([5, 0, 0, 0, 0, 6], UnknownKind.SMUDGE, Reason.OUT_OF_DISTRIBUTION),
    ],
)
def test_triage_unknown_kind_is_reviewed_with_its_most_probable_class(
    logits: list[float], kind: UnknownKind, reason: Reason
) -> None:
    prediction = _read(logits, **KINDS)
    assert (prediction.label, prediction.unknown_kind) == (CellClass.NEUTROPHIL, kind)
    assert (prediction.outcome, prediction.reason) == (Outcome.NEEDS_REVIEW, reason)
    assert len(prediction.probabilities) == len(CLASSES)
    assert sum(prediction.probabilities) < 0.5
    combined = combine_readings(_read([9, 0, 0, 0]), prediction, _card())
    assert (combined.outcome, combined.reason, combined.unknown_kind) == (Outcome.NEEDS_REVIEW, reason, kind)


def test_triage_unknown_kinds_together_reach_the_threshold() -> None:
    logits = np.log([0.7, 0.05, 0.05, 0.05, 0.06, 0.09]).tolist()
    assert _read(logits, **KINDS, unknown_threshold=0.14).unknown_kind is UnknownKind.SMUDGE
    assert _read(logits, **KINDS, unknown_threshold=0.16).unknown_kind is None


def test_triage_unknown_kind_that_is_less_probable_changes_nothing() -> None:
    assert _decide([9, 0, 0, 0, 5, 0], **KINDS) == (CellClass.NEUTROPHIL, Outcome.COUNTED, Reason.NONE)


SUBTYPES = (Subtype.PROMYELOCYTE, Subtype.BAND, Subtype.METAMYELOCYTE, Subtype.SEGMENTED, Subtype.MYELOCYTE)


def _compact_card(**changes: object) -> CompactCard:
    return CompactCard.model_validate({**_card().model_dump(exclude={"kind"}), "subtypes": SUBTYPES, **changes})


def _name(label_logits: list[float], subtype_logits: list[float], **changes: object) -> Subtype | None:
    named = name_subtypes((_read(label_logits),), np.array([subtype_logits], np.float32), _compact_card(**changes))
    return named[0].subtype


def test_name_subtypes_only_those_of_the_label_compete() -> None:
    assert _name([9, 0, 0, 0], [50, 1, 50, 2, 50]) is Subtype.SEGMENTED
    assert _name([0, 9, 0, 0], [50, 1, 50, 2, 50]) is None  # lymphocytes have none


def test_name_subtypes_below_the_threshold_has_none() -> None:
    odds_of_band = [0, math.log(3), 0, 0, 0]  # 3 to 1 against segmented
    assert _name([9, 0, 0, 0], odds_of_band, subtype_threshold=0.74) is Subtype.BAND
    assert _name([9, 0, 0, 0], odds_of_band, subtype_threshold=0.76) is None
    assert _name([9, 0, 0, 0], [math.nan] * 5, subtype_threshold=0.5) is None


def test_combine_readings_subtype_belongs_to_the_label_of_both() -> None:
    band = replace(_read([8, 0, 0, 0]), subtype=Subtype.BAND)
    assert combine_readings(_read([9, 0, 0, 0]), band, _card()).subtype is Subtype.BAND
    surely_other = combine_readings(_read([0, 9, 0, 0]), replace(_read([1, 0, 0, 0]), subtype=Subtype.BAND), _card())
    assert (surely_other.label, surely_other.subtype) == (CellClass.LYMPHOCYTE, None)


class CompactReader:
    """A second reader that sees a neutrophil, and in it a band."""

    def __init__(self, **changes: object) -> None:
        self.card, self.asked = _compact_card(**changes), list[tuple[str, ...]]()

    def run(self, rgb: np.ndarray, *outputs: str) -> tuple[np.ndarray, ...]:
        self.asked.append(outputs)
        arrays = {"logits": [9, 0, 0, 0], "subtypes": [0, 9, 0, 0, 0]}
        return tuple(np.array([arrays[name]], np.float32).repeat(len(rgb), axis=0) for name in outputs)


def test_classify_cells_subtype_comes_from_the_second_or_the_only_reader() -> None:
    first, second = NamedOutputs(), CompactReader()
    rgb: Any = np.zeros((1, 128, 128, 3), np.uint8)
    both = classify_cells(rgb, first, second)  # type: ignore[arg-type]
    alone = classify_cells(rgb, second)  # type: ignore[arg-type]
    assert [p.subtype for p in (*both, *alone)] == [Subtype.BAND] * 2
    assert classify_cells(rgb, first)[0].subtype is None  # type: ignore[arg-type]


def test_classify_cells_model_without_subtypes_is_not_asked_for_them() -> None:
    model: Any = CompactReader(subtypes=())
    (prediction,) = classify_cells(np.zeros((1, 128, 128, 3), np.uint8), model)
    assert (prediction.subtype, model.asked) == (None, [("logits",)])


@pytest.mark.parametrize("subtypes", [("band",), ("band", "segmented", "band"), ("monoblast",)])
def test_compact_card_has_all_subtypes_of_a_class(subtypes: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"subtype|duplicate"):
        _compact_card(subtypes=subtypes)
    assert _compact_card(subtypes=("segmented", "band")).subtypes == (Subtype.SEGMENTED, Subtype.BAND)
