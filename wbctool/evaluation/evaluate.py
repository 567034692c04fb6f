"""`wbctool evaluate`: labeled data through the stages of a run, and the measures of the models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from wbctool.datasets.labelled import LabelledField, LabelledImage, Split, UnknownImage
from wbctool.enums import Readers, SuperResolve
from wbctool.evaluation.blast_flag import BlastFlagReport, simulate_blast_flags
from wbctool.evaluation.classification import (
    ClassifierReport,
    LabelledCrop,
    Misclassification,
    SingleCell,
    crop_labelled_cells,
    crop_single_cell,
    is_learned,
    predict,
    summarize_classifier,
    top_misclassifications,
)
from wbctool.evaluation.familiarity import judge_as_slides
from wbctool.evaluation.field_cells import (
    RedCellReport,
    detect_in_fields,
    evaluate_field_cells,
    evaluate_red_cell_fields,
)
from wbctool.evaluation.labelled_data import read_evaluation_data
from wbctool.evaluation.metrics import DetectionScore, score_detections
from wbctool.evaluation.ood import OodReport, evaluate_ood
from wbctool.evaluation.percent_errors import PercentErrorReport, simulate_all_percent_errors
from wbctool.evaluation.precision_drift import PrecisionReport, compare_precisions
from wbctool.evaluation.silent_errors import (
    EvaluatedCell,
    SilentErrorReport,
    UnknownKindReport,
    summarize_silent_errors,
    summarize_unknown_kinds,
)
from wbctool.evaluation.subtypes import SubtypeReport, summarize_subtypes
from wbctool.evaluation.super_resolution import SuperResolutionRow, compare_generators
from wbctool.inference.loading import Models
from wbctool.inference.model_card import GeneratorCard
from wbctool.inference.session import OnnxModel
from wbctool.labels import CellClass
from wbctool.stages.detect import detect_cells
from wbctool.stages.nucleus_segmentation import find_cells_by_nuclei
from wbctool.types.cells import Box, Crop, Prediction
from wbctool.types.progress import Progress, no_progress
from wbctool.types.slides import Familiarity

_MAX_MISCLASSIFICATIONS = 24


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that a folder of labeled data allows to measure.

    Attributes:
        data: Name of the folder.
        split: The split that was measured, or ``all``.
        super_resolve: The mode of super-resolution.
        classifier: One report for each data set of labeled cells.
        detection: Score of the detector by data set of fields with boxes.
        detection_by_nuclei: Score of a segmentation of nuclei, which needs no training, on the same fields.
        super_resolution: Generators and bicubic enlargement on reduced cells.
        ood: How the classifier treats images that fit none of its classes.
        misclassifications: The wrong cells with the highest confidence, by data set.
        precisions: Comparison with the models in fp32; empty if the models compute in fp32.
        classes: Classes of the model, in order.
        cells: The labeled cells with their predictions, those of fields too.
        unseen_datasets: Data sets that no model was trained on, all of whose cells belong to the test split.
        silent_errors: One report for each data set of cells of known classes.
        unknown_kinds: One report for each data set and kind that no class fits.
        percent_errors: Errors of the percents, for each data set and size of a simulated slide.
        blast_flags: How often simulated slides of each data set raise the flag possible_blasts.
        red_cells: What is found in fields of red cells.
        familiarity: Whether each data set of cells is familiar, as if it were one slide.
        readers: Which networks classified the cells.
        subtypes: One report for each data set and class whose subtypes the models tell apart.
    """

    data: str
    split: str
    super_resolve: str
    classifier: tuple[ClassifierReport, ...]
    detection: dict[str, DetectionScore]
    detection_by_nuclei: dict[str, DetectionScore]
    super_resolution: tuple[SuperResolutionRow, ...]
    ood: tuple[OodReport, ...]
    misclassifications: dict[str, tuple[Misclassification, ...]]
    precisions: tuple[PrecisionReport, ...] = ()
    classes: tuple[CellClass, ...] = ()
    cells: tuple[EvaluatedCell, ...] = ()
    unseen_datasets: tuple[str, ...] = ()
    silent_errors: tuple[SilentErrorReport, ...] = ()
    unknown_kinds: tuple[UnknownKindReport, ...] = ()
    percent_errors: tuple[PercentErrorReport, ...] = ()
    blast_flags: tuple[BlastFlagReport, ...] = ()
    red_cells: tuple[RedCellReport, ...] = ()
    familiarity: Mapping[str, Familiarity] = field(default_factory=dict)
    readers: Readers = Readers.BOTH
    subtypes: tuple[SubtypeReport, ...] = ()


@dataclass(slots=True)
class _Evaluator:
    """The models and options of one evaluation, which measure one data set of cells after the other.

    Attributes:
        models: The models to measure.
        generators: The generators to compare on reduced cells.
        mode: When cells are super-resolved.
        sr_cells: The number of cells of a data set to compare generators on.
        progress: Wraps the items of slow loops.
        fp32: The models in fp32 to compare with; None to compare nothing.
        reports: The classifier's results on each data set so far.
        precisions: How the results of ``models`` and ``fp32`` differ on each data set.
        misclassifications: The wrong predictions with most confidence, by data set.
        sr_rows: The comparisons of the generators.
        crops: The crops of the cells of known classes.
        cells: All cells with their predictions.
    """

    models: Models
    generators: Sequence[OnnxModel[GeneratorCard]]
    mode: SuperResolve
    sr_cells: int
    progress: Progress
    fp32: Models | None
    reports: list[ClassifierReport] = field(default_factory=list)
    precisions: list[PrecisionReport] = field(default_factory=list)
    misclassifications: dict[str, tuple[Misclassification, ...]] = field(default_factory=dict)
    sr_rows: list[SuperResolutionRow] = field(default_factory=list)
    crops: list[Crop] = field(default_factory=list)
    cells: list[EvaluatedCell] = field(default_factory=list)

    def add_dataset(self, dataset: str, images: Sequence[LabelledImage]) -> None:
        """Classify the cells of one data set and add its results."""
        cells = crop_labelled_cells(images, self.models, self.progress, dataset)
        if not cells:
            return
        crops = [cell.crop for cell in cells]
        predictions = predict(crops, self.models, self.mode)
        if self.fp32 is not None:
            labels = [cell.image.label for cell in cells]
            reference = predict(crops, self.fp32, self.mode)
            self.precisions.append(compare_precisions(dataset, labels, reference, predictions))
        self.reports.append(summarize_classifier(dataset, cells, predictions, self.models.classifier.card.classes))
        self.misclassifications[dataset] = top_misclassifications(cells, predictions, _MAX_MISCLASSIFICATIONS)
        self.sr_rows += compare_generators(dataset, cells, self.models, self.generators, self.sr_cells, self.progress)
        self.crops += crops
        self._add_cells(cells, predictions)

    def add_unknown_kinds(self, cells: Sequence[LabelledCrop], images: Sequence[UnknownImage]) -> None:
        """Classify cells of classes that the model does not have, and cells of kinds that are no class."""
        self._add_cells(cells, predict([cell.crop for cell in cells], self.models, self.mode))
        members: list[tuple[UnknownImage, SingleCell]] = []
        for image in self.progress(images, len(images), "unknown kinds: finding cells"):
            cell = crop_single_cell(image.path, self.models)
            if not is_learned(cell.crop, self.models.classifier.card):
                members.append((image, cell))
        predictions = predict([cell.crop for _, cell in members], self.models, self.mode)
        self.cells += [
            EvaluatedCell(i.dataset, i.path.name, i.group, i.kind, i.subtype, prediction, cell.is_found)
            for (i, cell), prediction in zip(members, predictions, strict=True)
        ]

    def _add_cells(self, cells: Sequence[LabelledCrop], predictions: Sequence[Prediction]) -> None:
        """Add labeled cells with their predictions."""
        for cell, prediction in zip(cells, predictions, strict=True):
            i = cell.image
            self.cells.append(
                EvaluatedCell(i.dataset, i.path.name, i.group, i.label, i.subtype, prediction, cell.is_found)
            )


def evaluate(
    data: Path,
    models: Models,
    generators: Sequence[OnnxModel[GeneratorCard]],
    split: Split | None,
    mode: SuperResolve = SuperResolve.AUTO,
    sr_cells: int = 100,
    ood_images: int = 100,
    progress: Progress = no_progress,
    fp32: Models | None = None,
    field_labels: Mapping[str, CellClass | str] | None = None,
) -> Evaluation:
    """Measure the models on labeled data.

    Args:
        data: Class folders, fields with boxes, or a folder that holds several of them.
        models: The models to measure.
        generators: The generators to compare on reduced cells.
        split: Measure only the groups of this split, as the models' cards define it; all groups if None. Data sets that
            no model was trained on belong to the test split as a whole.
        mode: When cells are super-resolved.
        sr_cells: Maximum number of cells of each data set for the comparison of generators.
        ood_images: Maximum number of out-of-distribution images of each kind; 0 leaves them out.
        progress: Wraps the items of slow loops.
        fp32: The same models in fp32, to compare with; None if ``models`` compute in fp32.
        field_labels: Classes of the cells in fields without a labels.csv, by the image's file name.

    Raises:
        LabelledDataInvalid: Nothing labeled was found, or an image or a table cannot be read.
    """
    classes = models.classifier.card.classes
    labelled = read_evaluation_data(data, models, split, field_labels or {})
    evaluator = _Evaluator(models, generators, mode, sr_cells, progress, fp32)
    known_images = [image for image in labelled.images if image.label in classes]
    for dataset, members in sorted(_group_by_dataset(known_images).items()):
        evaluator.add_dataset(dataset, members)
    unknown_images = [image for image in labelled.images if image.label not in classes]
    unknown_cells = crop_labelled_cells(unknown_images, models, progress, "unknown classes")
    evaluator.add_unknown_kinds(unknown_cells, labelled.unknown_images)
    fields = labelled.fields
    detected = detect_in_fields(fields, partial(detect_cells, model=models.detector), progress)
    detected_by_nuclei = detect_in_fields(fields, find_cells_by_nuclei, progress)
    classified = set(labelled.classified_fields)
    pairs = [(field, boxes) for field, boxes in zip(fields, detected, strict=True) if field in classified]
    evaluator.cells += evaluate_field_cells(pairs, models, mode, progress)
    cells, familiarity = judge_as_slides(evaluator.cells, models.cards.familiarity_rule)
    return Evaluation(
        data=data.resolve().name,
        split=split.value if split else "all",
        super_resolve=mode.value,
        classifier=tuple(evaluator.reports),
        detection=_score_detectors(fields, detected),
        detection_by_nuclei=_score_detectors(fields, detected_by_nuclei),
        super_resolution=tuple(evaluator.sr_rows),
        ood=evaluate_ood(fields, evaluator.crops, unknown_cells, models, mode, ood_images, progress),
        misclassifications=evaluator.misclassifications,
        precisions=tuple(evaluator.precisions),
        classes=classes,
        cells=tuple(cells),
        familiarity=familiarity,
        readers=models.cards.readers,
        unseen_datasets=labelled.unseen_datasets,
        silent_errors=summarize_silent_errors(cells, classes),
        unknown_kinds=summarize_unknown_kinds(cells, classes),
        subtypes=summarize_subtypes(cells),
        percent_errors=simulate_all_percent_errors(cells, classes),
        blast_flags=simulate_blast_flags(cells),
        red_cells=evaluate_red_cell_fields(labelled.red_cell_fields, models, mode, progress),
    )


def _group_by_dataset(images: Sequence[LabelledImage]) -> dict[str, list[LabelledImage]]:
    """Return the images of each data set."""
    members: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        members[image.dataset].append(image)
    return members


def _score_detectors(fields: Sequence[LabelledField], detected: Sequence[Sequence[Box]]) -> dict[str, DetectionScore]:
    """Return the score of a way to find nucleated cells for each data set."""
    pairs: dict[str, list[tuple[Sequence[Box], Sequence[Box]]]] = defaultdict(list)
    for labelled, boxes in zip(fields, detected, strict=True):
        pairs[labelled.dataset].append((labelled.nucleated_boxes, boxes))
    return {dataset: score_detections(pairs[dataset]) for dataset in sorted(pairs)}
