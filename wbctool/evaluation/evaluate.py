"""`wbctool evaluate`: labeled data through the stages of a run, and the measures of the models."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from wbctool.datasets.class_folders import read_class_folders
from wbctool.datasets.fields import find_field_folders, read_fields
from wbctool.datasets.labelled import (
    GroupSplit,
    HasGroup,
    LabelledField,
    LabelledImage,
    Split,
)
from wbctool.enums import SuperResolve
from wbctool.errors import LabelledDataInvalid
from wbctool.evaluation.classification import (
    ClassifierReport,
    Misclassification,
    crop_labelled_cells,
    predict,
    read_labelled_field,
    summarize_classifier,
    top_misclassifications,
)
from wbctool.evaluation.metrics import DetectionScore, score_detections
from wbctool.evaluation.ood import OodReport, evaluate_ood
from wbctool.evaluation.precision_drift import PrecisionReport, compare_precisions
from wbctool.evaluation.super_resolution import SuperResolutionRow, compare_generators
from wbctool.inference.loading import Models
from wbctool.inference.model_card import CardT, GeneratorCard
from wbctool.inference.session import OnnxModel
from wbctool.paths import CONFUSION, COVERAGE, EVALUATION_JSON, EVALUATION_MD, EVALUATION_SCHEMA, MISTAKES, RELIABILITY
from wbctool.stages.detect import detect_cells
from wbctool.stages.nucleus_segmentation import find_cells_by_nuclei
from wbctool.store.atomic_write import write_atomic
from wbctool.types.cells import Box, Crop, Detection, Field, ObjectClass
from wbctool.types.progress import Progress

_MAX_MISCLASSIFICATIONS = 24

_Grouped = TypeVar("_Grouped", bound=HasGroup)


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
        misclassifications: By data set, the wrong cells with the highest confidence.
        precisions: Comparison with the models in fp32; empty if the models compute in fp32.
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


@dataclass(slots=True)
class _Evaluator:
    """The models and options of one evaluation, which measure one data set of cells after the other."""

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

    def add_dataset(self, dataset: str, images: Sequence[LabelledImage]) -> None:
        """Classify the cells of one data set and add its results."""
        cells = crop_labelled_cells(images, self.models, self.progress, dataset)
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


def evaluate(
    data: Path,
    models: Models,
    generators: Sequence[OnnxModel[GeneratorCard]],
    split: Split | None,
    mode: SuperResolve = SuperResolve.AUTO,
    sr_cells: int = 100,
    ood_images: int = 100,
    progress: Progress = lambda items, _total, _description: items,
    fp32: Models | None = None,
) -> Evaluation:
    """Measure the models on labeled data.

    Args:
        data: Class folders, fields with boxes, or a folder that holds several of them.
        models: The models to measure.
        generators: The generators to compare on reduced cells.
        split: Measure only the groups of this split, as the models' cards define it; all groups if None.
        mode: When cells are super-resolved.
        sr_cells: Maximum number of cells of each data set for the comparison of generators.
        ood_images: Maximum number of out-of-distribution images of each kind; 0 leaves them out.
        progress: Wraps the items of slow loops.
        fp32: The same models in fp32, to compare with; None if ``models`` compute in fp32.

    Raises:
        LabelledDataInvalid: Nothing labeled was found, or an image or a table cannot be read.
    """
    classes = models.classifier.card.classes
    images = _select_split(read_class_folders(data), models.classifier, split)
    all_fields = (labelled for folder in find_field_folders(data) for labelled in read_fields(folder))
    fields = _select_split(all_fields, models.detector, split)
    known_images = [image for image in images if image.label in classes]
    if not known_images and not fields:
        split_note = f" in the split {split.value}" if split else ""
        raise LabelledDataInvalid(f"{data}: no labeled cells or fields{split_note}")
    evaluator = _Evaluator(models, generators, mode, sr_cells, progress, fp32)
    for dataset, members in sorted(_group_by_dataset(known_images).items()):
        evaluator.add_dataset(dataset, members)
    unknown_images = [image for image in images if image.label not in classes]
    unknown_cells = crop_labelled_cells(unknown_images, models, progress, "unknown classes")
    return Evaluation(
        data=data.resolve().name,
        split=split.value if split else "all",
        super_resolve=mode.value,
        classifier=tuple(evaluator.reports),
        detection=_score_detectors(fields, partial(detect_cells, model=models.detector), progress),
        detection_by_nuclei=_score_detectors(fields, find_cells_by_nuclei, progress),
        super_resolution=tuple(evaluator.sr_rows),
        ood=evaluate_ood(fields, evaluator.crops, unknown_cells, models, mode, ood_images, progress),
        misclassifications=evaluator.misclassifications,
        precisions=tuple(evaluator.precisions),
    )


def write_evaluation(result: Evaluation, text: str, out: Path) -> None:
    """Write evaluation.json, evaluation.md and the figures, each file whole.

    The JSON comes first: `wbctool run` recognizes by it that the figures beside it are no fields.

    Args:
        result: What was measured.
        text: Content of evaluation.md.
        out: The folder; it is created if it is missing.

    Raises:
        OutputNotWritable: A file cannot be written.
    """
    record = {"schema": EVALUATION_SCHEMA, **asdict(result)}
    for misclassifications in record["misclassifications"].values():
        for misclassification in misclassifications:
            del misclassification["rgb"]
    write_atomic(out / EVALUATION_JSON, (json.dumps(record, indent=2) + "\n").encode())
    write_atomic(out / EVALUATION_MD, text.encode(errors="backslashreplace"))
    for name, draw in _iter_figures(result):
        png = BytesIO()
        draw(png)
        write_atomic(out / name, png.getvalue())


def _select_split(items: Iterable[_Grouped], model: OnnxModel[CardT], split: Split | None) -> list[_Grouped]:
    """Return the items of a split as the model's card defines it; all if the split is None."""
    group_split = GroupSplit.from_card(model.card.training)
    return [item for item in items if split is None or group_split.assign(item) is split]


def _iter_figures(result: Evaluation) -> Iterator[tuple[str, Callable[[BytesIO], None]]]:
    """Yield the file name of each figure and the function that draws it."""
    from wbctool.evaluation.figures import draw_confusion, draw_coverage, draw_misclassifications, draw_reliability

    for dataset, misclassifications in result.misclassifications.items():
        if misclassifications:
            yield _figure_name(MISTAKES, dataset), partial(draw_misclassifications, misclassifications, dataset)
    for report in result.classifier:
        yield _figure_name(CONFUSION, report.dataset), partial(draw_confusion, report)
        yield _figure_name(RELIABILITY, report.dataset), partial(draw_reliability, report)
        yield _figure_name(COVERAGE, report.dataset), partial(draw_coverage, report)


def _figure_name(kind: str, dataset: str) -> str:
    """Return a file name that leads into no other folder, whatever sources.csv calls the data set."""
    return f"{kind}-{dataset.replace('/', '_')}.png"


def _group_by_dataset(images: Sequence[LabelledImage]) -> dict[str, list[LabelledImage]]:
    """Return the images of each data set."""
    members: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        members[image.dataset].append(image)
    return members


def _score_detectors(
    fields: Sequence[LabelledField], detect: Callable[[Field], Sequence[Detection]], progress: Progress
) -> dict[str, DetectionScore]:
    """Return the score of a way to find nucleated cells for each data set."""
    pairs: dict[str, list[tuple[list[Box], list[Box]]]] = defaultdict(list)
    for labelled in progress(fields, len(fields), "fields: finding cells"):
        detections = sorted(detect(read_labelled_field(labelled.path)), key=lambda detection: -detection.score)
        annotated = [box.box for box in labelled.boxes if box.object_class is ObjectClass.NUCLEATED]
        pairs[labelled.dataset].append((annotated, [detection.box for detection in detections]))
    return {dataset: score_detections(pairs[dataset]) for dataset in sorted(pairs)}
