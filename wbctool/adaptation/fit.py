"""Readers adapted to a laboratory: last layers, temperatures, thresholds and familiarity, all from its labeled cells.

Whatever is chosen (the L2 penalty, the temperature, the thresholds) is chosen on cells that a reader named, of other
groups than those that the layer was fitted to. What is reported is measured on cells of groups that took part in
nothing: :func:`cross_validate` repeats everything without them. A reader of which more than the last layer is tuned is
tuned anew each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from wbctool.adaptation.calibration import calibrate, choose_threshold
from wbctool.adaptation.familiarity import fit_familiarity
from wbctool.adaptation.last_layer import Correction, ReducedCells, fit_correction
from wbctool.adaptation.readers import AdaptedReader, CellLabels, Reader, TunedNetwork, Tuner
from wbctool.inference.familiarity_rule import FamiliarityRule, select_rule
from wbctool.inference.model_card import CellClassifierCard
from wbctool.stages.classify import combine_readings, predictions_from_logits
from wbctool.stages.familiarity import judge_familiarity, measure_familiarity
from wbctool.types.cells import Prediction

L2_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
MIN_DRAWN_CELLS = 20  # chosen at random; fewer do not stand for the laboratory's cells
_INNER_FOLDS, _OUTER_FOLDS = 3, 5
_REPLAY_WEIGHT = 0.25  # of all training cells together; the laboratory's cells weigh 1
_UNKNOWN_REPLAY_WEIGHT = 0.05  # of those of unknown kinds, which are few: a laboratory has hardly any blasts to teach


def adapt_readers(
    readers: Sequence[Reader], cell_labels: CellLabels, taught: NDArray[np.bool_]
) -> tuple[AdaptedReader, ...]:
    """Adapt the first reader and, if there is one, the second.

    Args:
        readers: The readers, the first one first.
        cell_labels: The labels of the cells.
        taught: (N,) bool, the cells to learn from. Of the others nothing is used but, without their labels, their
            features for :class:`wbctool.adaptation.last_layer.Basis`.

    Returns:
        The adapted readers, in order.
    """
    folds = assign_folds(cell_labels.groups, taught, _is_known(readers, cell_labels), _INNER_FOLDS)
    fitted = [_fit_reader(reader, cell_labels, taught, folds) for reader in readers]
    cards = [one.reader.card for one in fitted]
    adapted = []
    for index, one in enumerate(fitted):
        # The first reader's threshold decides where both read; the second's where it reads alone.
        threshold = max(
            choose_threshold(
                _predict_without_threshold([reader.held_out_logits[cells] for reader in fitted[index:]], cards[index:]),
                cell_labels.select(cells),
            )
            for cells in _samples(cell_labels, taught)
        )
        rule = one.reader.card.familiarity
        if rule is not None:
            rule = fit_familiarity(rule, one.reader.features, one.features_by_fold, cell_labels.labels, folds)
        card = one.reader.card.model_copy(update={"confidence_threshold": threshold, "familiarity": rule})
        adapted.append(replace(one.reader, card=card))
    return tuple(adapted)


def _samples(cell_labels: CellLabels, taught: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """Return the cells in which few errors may be silent: all that were named and, if they are enough, those drawn.

    Of cells that were chosen because the readers doubt them, fewer are surely wrong than of a laboratory's cells.
    """
    named = taught & cell_labels.named
    drawn = named & cell_labels.drawn
    return [named, drawn] if drawn.sum() >= MIN_DRAWN_CELLS else [named]


def cross_validate(readers: Sequence[Reader], cell_labels: CellLabels) -> list[Prediction]:
    """Predict every cell by readers that were adapted without its group.

    The cells of a fold are judged as one slide. If the readers adapted without it find it unfamiliar, the unsure ones
    are sent to review, as in a run.

    Args:
        readers: The readers, the first one first.
        cell_labels: The labels of the cells.

    Returns:
        What a run with the adapted readers would make of each cell, in order.
    """
    everything = np.ones(len(cell_labels.labels), bool)
    folds = assign_folds(cell_labels.groups, everything, _is_known(readers, cell_labels), _OUTER_FOLDS)
    predictions: dict[int, Prediction] = {}
    for fold in np.unique(folds):
        held_out = folds == fold
        adapted = adapt_readers(readers, cell_labels, ~held_out)
        logits = [a.layer.compute_logits(a.features[held_out]) for a in adapted]
        predicted = _judge_as_slide(predict(logits, [a.card for a in adapted]), adapted, held_out)
        predictions.update(zip(np.flatnonzero(held_out).tolist(), predicted, strict=True))
    return [predictions[index] for index in range(len(cell_labels.labels))]


def _judge_as_slide(
    predictions: Sequence[Prediction], adapted: Sequence[AdaptedReader], held_out: NDArray[np.bool_]
) -> list[Prediction]:
    """Send unsure cells to review if together they are unfamiliar; too few cells are taken to be of a larger slide."""
    rules = [reader.card.familiarity for reader in adapted]
    measured = add_distances(predictions, rules, [reader.features[held_out] for reader in adapted])
    judged, familiarity = judge_familiarity(measured, select_rule(rules))
    return judged if familiarity is not None and familiarity.is_familiar is False else measured


def add_distances(
    predictions: Sequence[Prediction], rules: Sequence[FamiliarityRule | None], features: Sequence[NDArray[np.float32]]
) -> list[Prediction]:
    """Add to predictions the distances by the first reader that measures them, as a run does.

    Args:
        predictions: The prediction of each cell.
        rules: That of each reader's card.
        features: (N, D) of the cells, by each reader.
    """
    for rule, of_reader in zip(rules, features, strict=True):
        if rule is not None:
            return measure_familiarity(predictions, of_reader, rule)
    return list(predictions)


def predict(logits: Sequence[NDArray[np.float32]], cards: Sequence[CellClassifierCard]) -> list[Prediction]:
    """Return what a run makes of cells whose slide is familiar.

    Args:
        logits: (N, outputs) of each reader.
        cards: The card of each reader.
    """
    by_reader = [predictions_from_logits(values, card) for values, card in zip(logits, cards, strict=True)]
    if len(by_reader) == 1:
        return list(by_reader[0])
    return [combine_readings(one, other, cards[0]) for one, other in zip(*by_reader, strict=True)]


def assign_folds(
    groups: Sequence[str], taught: NDArray[np.bool_], known: NDArray[np.bool_], n_folds: int
) -> NDArray[np.int64]:
    """Divide cells into folds without dividing a group.

    The folds have about as many cells of known classes, by which readers are calibrated; then about as many cells.

    Args:
        groups: The group of each cell.
        taught: (N,) bool, the cells to divide.
        known: (N,) bool, the cells that were named as classes that the readers know.
        n_folds: The number of folds, if there are as many groups.

    Returns:
        (N,) int64, the fold of each cell; -1 for cells that are not taught.
    """
    sizes: dict[str, tuple[int, int]] = {}  # of known classes, and all
    for group, is_taught, is_known in zip(groups, taught, known, strict=True):
        if is_taught:
            n_known, n_cells = sizes.get(group, (0, 0))
            sizes[group] = n_known + bool(is_known), n_cells + 1
    order = sorted(sizes, key=lambda group: sha256(group.encode(errors="surrogateescape")).digest())
    order.sort(key=lambda group: sizes[group], reverse=True)
    filled = [(0, 0)] * min(n_folds, len(sizes))
    fold_by_group = {}
    for group in order:
        fold = filled.index(min(filled))
        fold_by_group[group] = fold
        filled[fold] = filled[fold][0] + sizes[group][0], filled[fold][1] + sizes[group][1]
    return np.array([fold_by_group[g] if c else -1 for g, c in zip(groups, taught, strict=True)], np.int64)


def _is_known(readers: Sequence[Reader], cell_labels: CellLabels) -> NDArray[np.bool_]:
    """Return whether a reader named each cell, and as a class that the readers know."""
    return (cell_labels.indices(readers[0].card.classes) >= 0) & cell_labels.named


@dataclass(frozen=True, slots=True)
class _FittedReader:
    """A fitted reader; its confidence threshold and familiarity are still those of the shipped one.

    Attributes:
        reader: The reader.
        held_out_logits: (N, outputs), each taught cell's by a reader that was fitted without its fold.
        features_by_fold: The features (N, D) of all cells by each of these readers.
    """

    reader: AdaptedReader
    held_out_logits: NDArray[np.float32]
    features_by_fold: list[NDArray[np.float32]]


def _fit_reader(
    reader: Reader, cell_labels: CellLabels, taught: NDArray[np.bool_], folds: NDArray[np.int64]
) -> _FittedReader:
    """Fit one reader to the taught cells, and once more without each fold."""
    l2_penalty, logits = _choose_l2_penalty(reader, cell_labels, folds)
    if reader.tuner is not None:
        return _fit_tuned(reader, reader.tuner, cell_labels, taught, folds, l2_penalty)
    layer = reader.basis.correct(_fit(reader, cell_labels, taught, l2_penalty))
    measured = taught & cell_labels.named
    card = calibrate(reader.card, logits[measured], cell_labels.select(measured))
    adapted = AdaptedReader(card, layer, reader.features, l2_penalty)
    return _FittedReader(adapted, logits, [reader.features] * (int(folds.max()) + 1))


def _fit_tuned(
    reader: Reader,
    tuner: Tuner,
    cell_labels: CellLabels,
    taught: NDArray[np.bool_],
    folds: NDArray[np.int64],
    l2_penalty: float,
) -> _FittedReader:
    """Fit the last layer of a reader, then tune more of it, to the taught cells, and once more without each fold."""
    y_true = cell_labels.indices(reader.outputs)

    def tune(learned: NDArray[np.bool_]) -> TunedNetwork:
        start = reader.basis.correct(_fit(reader, cell_labels, learned, l2_penalty))
        return tuner(start, np.where(learned, y_true, -1), cell_labels.weights)

    logits = np.zeros((len(folds), len(reader.outputs)), np.float32)
    features_by_fold = []
    for fold in range(int(folds.max()) + 1):
        without = tune(taught & (folds != fold))
        features_by_fold.append(without.features)
        logits[folds == fold] = without.layer.compute_logits(without.features[folds == fold])
    tuned = tune(taught)
    measured = taught & cell_labels.named
    card = calibrate(reader.card, logits[measured], cell_labels.select(measured))
    adapted = AdaptedReader(card, tuned.layer, tuned.features, l2_penalty, tuned)
    return _FittedReader(adapted, logits, features_by_fold)


def _predict_without_threshold(
    logits: Sequence[NDArray[np.float32]], cards: Sequence[CellClassifierCard]
) -> list[Prediction]:
    """Return what readers that read together make of cells, however sure they are."""
    return predict(logits, [cards[0].model_copy(update={"confidence_threshold": 0.0}), *cards[1:]])


def _choose_l2_penalty(
    reader: Reader, cell_labels: CellLabels, folds: NDArray[np.int64]
) -> tuple[float, NDArray[np.float32]]:
    """Choose the L2 penalty with the least cross-validated log-loss.

    Returns:
        The penalty, and the logits (N, outputs) of each cell by the layer that was fitted without its fold.
    """
    y_true = cell_labels.indices(reader.outputs)
    measured = (folds >= 0) & (y_true >= 0) & cell_labels.named
    best: tuple[float, float, NDArray[np.float32]] | None = None
    for l2_penalty in L2_PENALTIES:
        logits = np.zeros((len(folds), len(reader.outputs)), np.float32)
        for fold in range(int(folds.max()) + 1):
            correction = _fit(reader, cell_labels, (folds >= 0) & (folds != fold), l2_penalty)
            logits[folds == fold] = correction.correct_logits(reader.cells.select(folds == fold))
        log_probabilities = log_softmax(logits[measured].astype(np.float64), axis=1)
        loss = -float(log_probabilities[np.arange(measured.sum()), y_true[measured]].sum())
        if best is None or loss < best[0]:
            best = loss, l2_penalty, logits
    assert best is not None
    return best[1], best[2]


def _fit(reader: Reader, cell_labels: CellLabels, taught: NDArray[np.bool_], l2_penalty: float) -> Correction:
    """Fit a correction of a reader's last layer to some cells and to cells of its training."""
    y_true = cell_labels.indices(reader.outputs)
    taught = taught & (y_true >= 0)
    learned, training = reader.cells.select(taught), reader.training_cells
    weights = cell_labels.weights[taught]
    return fit_correction(
        ReducedCells(
            logits=np.concatenate([learned.logits, training.logits]),
            features=np.concatenate([learned.features, training.features]),
        ),
        np.concatenate([y_true[taught], reader.training.y_true]),
        np.concatenate([weights / max(weights.sum(), 1e-12), _weigh_replayed(reader)]),
        l2_penalty,
    )


def _weigh_replayed(reader: Reader) -> NDArray[np.float64]:
    """Return the weight (N,) of each cell of a reader's training."""
    is_unknown = reader.training.y_true >= len(reader.card.classes)
    weights = np.full(len(is_unknown), _REPLAY_WEIGHT / max(int((~is_unknown).sum()), 1))
    weights[is_unknown] = _UNKNOWN_REPLAY_WEIGHT / max(int(is_unknown.sum()), 1)
    return weights
