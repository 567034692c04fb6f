"""`wbctool adapt`: readers fitted to a laboratory's labeled cells, and measured against the shipped ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wbctool.adaptation.cells import AdaptationCell, count_labels
from wbctool.adaptation.familiarity import add_colors
from wbctool.adaptation.fit import MIN_DRAWN_CELLS, adapt_readers, add_distances, cross_validate, predict
from wbctool.adaptation.measure import Comparison, compare, find_doubtful_labels
from wbctool.adaptation.readers import AdaptedReader, CellLabels, Reader, Tuner
from wbctool.enums import SuperResolve
from wbctool.errors import ModelMismatch
from wbctool.inference.classifier_head import read_last_layer
from wbctool.inference.color_range import ColorRange
from wbctool.inference.familiarity_rule import select_rule
from wbctool.inference.loading import Models
from wbctool.inference.model_card import CellClassifierCard, ClassifierCard, CompactCard, kind_name, load_fp32_card
from wbctool.inference.model_folder import read_model_bytes
from wbctool.inference.session import FEATURES, OnnxModel
from wbctool.inference.training_features import read_training_features
from wbctool.labels import CellClass
from wbctool.limits import Limits
from wbctool.stages.familiarity import judge_familiarity
from wbctool.stages.preprocess import preprocess_crops
from wbctool.stages.quality import color_distance
from wbctool.text import pluralize, replace_underscores
from wbctool.types.cells import Prediction
from wbctool.types.progress import Progress, no_progress
from wbctool.types.slides import FieldColors

MIN_CELLS = 30
MIN_GROUPS = 3
_MIN_CELLS_PER_CLASS = 5  # fewer say little of a class
_UNMOVED_WEIGHT = 0.3  # of a cell that a reader of a report did not move: seen, perhaps, but not named
_BATCH = 16
_DEEP_NOTE = (
    "the last block of the first reader is tuned too, without cells of its training: it may forget what this "
    "laboratory has no cells of"
)

_NO_GROUPS_NOTE = (
    "every cell counts as a slide of its own; if several are of one slide, say so in groups.csv: without it the models "
    "are measured on slides that they have learned from"
)

MakeTuner = Callable[[bytes, CellClassifierCard, NDArray[np.uint8], Progress], Tuner]
"""Makes a tuner of the first reader, from its ONNX file, its card, (N, 128, 128, 3) uint8 RGB of the laboratory's
cells, and what wraps slow loops."""


@dataclass(frozen=True, slots=True)
class Adaptation:
    """An adaptation, measured but not written.

    Attributes:
        readers: The adapted readers, in order.
        parents: The cards of the readers that were adapted.
        comparison: Shipped and adapted readers.
        measured_at_random: Whether it is measured on cells that were chosen at random alone.
        doubtful: Cells whose labels both readers contradict, with the class that they give them.
        notes: Which classes have few cells, and what an adaptation by this method may forget.
    """

    readers: tuple[AdaptedReader, ...]
    parents: tuple[CellClassifierCard, ...]
    comparison: Comparison
    measured_at_random: bool
    doubtful: tuple[tuple[AdaptationCell, CellClass], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why the readers were not adapted.

    Attributes:
        cause: What is missing.
        notes: The notes, as of :class:`Adaptation`.
    """

    cause: str
    notes: tuple[str, ...]


def find_start_models(folder: Path, shipped: Path) -> Path:
    """Find the models that an adaptation starts from, which are never adapted ones.

    Args:
        folder: The folder of models that was asked for.
        shipped: The folder of the shipped models.

    Returns:
        ``folder``, or ``shipped`` if the models in ``folder`` were adapted from these.

    Raises:
        ModelMismatch: The models were adapted from others, or a card cannot be read.
    """
    cards = _read_classifier_cards(folder)
    adapted = [(card, card.adaptation) for card in cards if card.adaptation is not None]
    if not adapted:
        return folder
    sources = {card.kind: card.adaptation.parent_sha256 if card.adaptation else card.sha256 for card in cards}
    if sources.items() <= {card.kind: card.sha256 for card in _read_classifier_cards(shipped)}.items():
        return shipped
    card, info = adapted[0]
    raise ModelMismatch(
        f"{folder / card.file} is adapted already, and not from the shipped models: name with --models the folder of "
        f"the model that it was adapted from, with SHA-256 {info.parent_sha256}"
    )


def _read_classifier_cards(folder: Path) -> list[CellClassifierCard]:
    """Read the cards of the classifiers that a folder has."""
    kinds: tuple[type[CellClassifierCard], ...] = (ClassifierCard, CompactCard)
    return [load_fp32_card(folder, kind) for kind in kinds if (folder / f"{kind_name(kind)}.json").is_file()]


def adapt(
    cells: Sequence[AdaptationCell],
    models: Models,
    folder: Path,
    progress: Progress = no_progress,
    make_tuner: MakeTuner | None = None,
) -> Adaptation | Shortfall:
    """Adapt the readers to labeled cells, and measure by cross-validation what that is worth.

    Args:
        cells: The cells, each once.
        models: The models in fp32.
        folder: Their folder, with the features of training cells.
        progress: Wraps the cells.
        make_tuner: Makes what tunes more of the first reader than its last layer; None for the last layer alone.

    Returns:
        The adaptation, or why there is none; then nothing was fitted.

    Raises:
        ModelNotFound, ModelMismatch: The features of training cells are missing or belong to another model, as those of
            adapted models do (:func:`find_start_models`), or the first reader is no network that can be tuned.
    """
    parents = tuple(model.card for model in models.classifiers)
    notes = _describe_rare_classes(cells, parents[0].classes)
    if make_tuner is not None:
        notes += (_DEEP_NOTE,)
    if len({cell.group for cell in cells}) == len(cells):
        notes += (_NO_GROUPS_NOTE,)
    known = [cell for cell in cells if cell.is_named and cell.label in parents[0].classes]
    n_unmoved = sum(not cell.is_named for cell in cells)
    if cause := _describe_shortfall(len(known), len({cell.group for cell in known}), n_unmoved):
        return Shortfall(cause, notes)
    measured_at_random = sum(cell.is_random for cell in cells) >= MIN_DRAWN_CELLS
    measured = [i for i, cell in enumerate(cells) if (cell.is_random if measured_at_random else cell.is_named)]
    if not any(isinstance(cells[i].label, CellClass) for i in measured):
        return Shortfall("none of the cells that were chosen at random has a class", notes)
    cell_labels, readers = to_cell_labels(cells), compute_readers(cells, models, folder, progress, make_tuner)
    groups = cell_labels.groups
    fields = list(dict.fromkeys(cell.field_colors for cell in cells if cell.field_colors is not None))
    before = predict_as_shipped(readers, are_stains_unknown(fields, models.cards.stain_reference))
    after = cross_validate(readers, cell_labels)
    comparison = compare(
        [cell_labels.labels[i] for i in measured],
        [groups[i] for i in measured],
        [before[i] for i in measured],
        [after[i] for i in measured],
    )
    doubtful = tuple((cells[i], after[i].label) for i in find_doubtful_labels(cell_labels.labels, after))
    adapted = adapt_readers(readers, cell_labels, np.ones(len(cells), bool))
    adapted = tuple(_with_colors(reader, fields) for reader in adapted)
    return Adaptation(adapted, parents, comparison, measured_at_random, doubtful, notes)


def to_cell_labels(cells: Sequence[AdaptationCell]) -> CellLabels:
    """Return what cells teach. Cells that a reader did not move together weigh at most as much as the named ones."""
    named = np.array([cell.is_named for cell in cells], bool)
    unmoved_weight = min(_UNMOVED_WEIGHT, named.sum() / max(int((~named).sum()), 1))
    return CellLabels(
        labels=tuple(cell.label for cell in cells),
        groups=tuple(cell.group for cell in cells),
        weights=np.where(named, 1.0, unmoved_weight),
        named=named,
        drawn=np.array([cell.is_random for cell in cells], bool),
    )


def compute_readers(
    cells: Sequence[AdaptationCell],
    models: Models,
    folder: Path,
    progress: Progress = no_progress,
    make_tuner: MakeTuner | None = None,
) -> list[Reader]:
    """Compute what the adaptation of each reader needs; arguments and errors are those of :func:`adapt`."""
    training = [read_training_features(folder, model.card) for model in models.classifiers]  # first: it may be missing
    rgb = preprocess_crops([cell.crop for cell in cells], models.generator, SuperResolve.AUTO).rgb
    readers = []
    first = models.classifier
    for model, its_training in zip(models.classifiers, training, strict=True):
        content = read_model_bytes(model.card, folder)
        readers.append(
            Reader(
                card=model.card,
                layer=read_last_layer(content),
                features=compute_features(rgb, model, progress),
                training=its_training,
                tuner=make_tuner(content, model.card, rgb, progress) if make_tuner and model is first else None,
            )
        )
    return readers


def compute_features(
    rgb: NDArray[np.uint8], model: OnnxModel[CellClassifierCard], progress: Progress
) -> NDArray[np.float32]:
    """Compute a classifier's features of cells.

    Args:
        rgb: (N, 128, 128, 3) uint8 RGB.
        model: The classifier.
        progress: Wraps the batches.

    Returns:
        (N, D) float32.
    """
    batches = [rgb[start : start + _BATCH] for start in range(0, len(rgb), _BATCH)]
    return np.concatenate(
        [model.run(batch, FEATURES)[0] for batch in progress(batches, len(batches), f"{model.card.name}: features")]
    )


def are_stains_unknown(fields: Sequence[FieldColors], known: Sequence[ColorRange]) -> list[bool]:
    """Return of each field whether a run finds its colors unlike those of every laboratory that the models know."""
    distances = [color_distance(colors, known) for colors in fields]
    return [distance is not None and distance > Limits().max_stain_delta_e for distance in distances]


def predict_as_shipped(readers: Sequence[Reader], stain_out_of_range: Sequence[bool] = ()) -> list[Prediction]:
    """Return what a run with the readers as they are makes of the cells, if these are one slide.

    Args:
        readers: The readers.
        stain_out_of_range: Whether each field's colors are unknown, as :func:`are_stains_unknown` returns it.
    """
    logits = [reader.layer.compute_logits(reader.features) for reader in readers]
    predictions = predict(logits, [reader.card for reader in readers])
    rules = [reader.card.familiarity for reader in readers]
    measured = add_distances(predictions, rules, [reader.features for reader in readers])
    return judge_familiarity(measured, select_rule(rules), stain_out_of_range)[0]


def _with_colors(reader: AdaptedReader, fields: Sequence[FieldColors]) -> AdaptedReader:
    """Return an adapted reader whose card knows the colors of the laboratory's fields."""
    if reader.card.familiarity is None:
        return reader
    rule = add_colors(reader.card.familiarity, fields)
    return replace(reader, card=reader.card.model_copy(update={"familiarity": rule}))


def _describe_shortfall(n_cells: int, n_groups: int, n_unmoved: int) -> str:
    """Return which cells are missing for an adaptation; empty if none are."""
    if n_cells < MIN_CELLS:
        cause = f"{pluralize(n_cells, 'labeled cell')} of classes that the models know; {MIN_CELLS} are needed"
        unmoved = f"; {pluralize(n_unmoved, 'cell')} that a reader did not move do not count"
        return cause + unmoved if n_unmoved else cause
    if n_groups < MIN_GROUPS:
        return f"the cells are from {pluralize(n_groups, 'slide')}; {MIN_GROUPS} are needed"
    return ""


def _describe_rare_classes(cells: Sequence[AdaptationCell], classes: Sequence[CellClass]) -> tuple[str, ...]:
    """Return a note on the classes with few cells."""
    counts = count_labels(cells)
    rare = [
        f"{replace_underscores(label.value)} ({counts[label]})"
        for label in classes
        if counts[label] < _MIN_CELLS_PER_CLASS
    ]
    if not rare:
        return ()
    few = f"classes with fewer than {_MIN_CELLS_PER_CLASS} cells, which change little and are hardly measured"
    return (f"{few}: {', '.join(rare)}",)
