"""`wbctool evaluate`: labelled data through the stages of a run, with the ONNX models alone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from wbctool.datasets.labelled import (
    GroupSplit,
    LabelledField,
    LabelledImage,
    Split,
    find_field_folders,
    read_class_folders,
    read_fields,
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
from wbctool.inference.model_card import GeneratorCard
from wbctool.inference.session import OnnxModel
from wbctool.paths import CONFUSION, COVERAGE, EVALUATION_JSON, EVALUATION_MD, EVALUATION_SCHEMA, MISTAKES, RELIABILITY
from wbctool.stages.detect import detect_cells
from wbctool.stages.nucleus_segmentation import find_cells_by_nuclei
from wbctool.store.atomic_write import write_atomic
from wbctool.types.cells import Crop, Detection, Field, ObjectClass
from wbctool.types.progress import Progress

_MAX_MISCLASSIFICATIONS = 24


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that DATA allowed to measure. detection: by origin; detection_by_nuclei: the same fields, nothing learned.

    misclassifications: by origin, the cells that the classifier was surest of and wrong. precisions: empty where the models
    compute in fp32.
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


def evaluate(
    data: Path,
    models: Models,
    generators: Sequence[OnnxModel[GeneratorCard]],
    split: Split | None,
    mode: SuperResolve = SuperResolve.AUTO,
    sr_cells: int = 100,
    ood_images: int = 100,
    progress: Progress = lambda items, _total, _what: items,
    fp32: Models | None = None,
) -> Evaluation:
    """Measure the models on labelled data.

    data: class folders, fields with boxes, or a folder that holds several. split: only its sources, as the
    models' cards tell them; None: all.
    generators: those to compare on reduced cells. sr_cells: at most this many of each data set for that comparison.
    ood_images: at most this many pictures of each kind that no class fits (wbctool.evaluation.ood); 0: none.
    fp32: the same models in fp32, to name the same cells once more; None where ``models`` are these.

    Raises LabelledDataInvalid where nothing labelled is found.
    """

    def select_split(items: Iterable[Any], model: OnnxModel[Any]) -> list[Any]:
        group_split = GroupSplit.from_card(model.card.training)
        return [item for item in items if split is None or group_split.assign(item) is split]

    images: list[LabelledImage] = select_split(read_class_folders(data), models.classifier)
    all_fields = (field for folder in find_field_folders(data) for field in read_fields(folder))
    fields: list[LabelledField] = select_split(all_fields, models.detector)
    known_images = [i for i in images if i.label in models.classifier.card.classes]
    if not known_images and not fields:
        raise LabelledDataInvalid(
            f"{data}: no labelled cells or fields" + (f" in the split {split.value}" if split else "")
        )
    reports, rows, cells, misclassifications = [], list[SuperResolutionRow](), list[Crop](), {}
    precisions = []
    for dataset, members in sorted(_group_by_dataset(known_images).items()):
        labelled_crops = crop_labelled_cells(members, models, progress, dataset)
        crops = [cell.crop for cell in labelled_crops]
        predictions = predict(crops, models, mode)
        if fp32 is not None:
            labels = [cell.image.label for cell in labelled_crops]
            precisions.append(compare_precisions(dataset, labels, predict(crops, fp32, mode), predictions))
        reports.append(summarize_classifier(dataset, labelled_crops, predictions, models.classifier.card.classes))
        misclassifications[dataset] = top_misclassifications(labelled_crops, predictions, _MAX_MISCLASSIFICATIONS)
        rows += compare_generators(dataset, labelled_crops, models, generators, sr_cells, progress)
        cells += crops
    unknown_images = [image for image in images if image.label not in models.classifier.card.classes]
    return Evaluation(
        data=data.resolve().name,
        split=split.value if split else "all",
        super_resolve=mode.value,
        classifier=tuple(reports),
        detection=_score_detectors(fields, lambda field: detect_cells(field, models.detector), progress),
        detection_by_nuclei=_score_detectors(fields, find_cells_by_nuclei, progress),
        super_resolution=tuple(rows),
        ood=evaluate_ood(
            fields,
            cells,
            crop_labelled_cells(unknown_images, models, progress, "unknown classes"),
            models,
            mode,
            ood_images,
            progress,
        ),
        misclassifications=misclassifications,
        precisions=tuple(precisions),
    )


def write_evaluation(result: Evaluation, text: str, out: Path) -> None:
    """evaluation.json, ``text`` as evaluation.md and the figures into the folder ``out``, each whole.

    The record is first: by it the figures beside it are known to be no fields. Raises OutputNotWritable.
    """
    record = asdict(result)
    for misclassification in (mistake for of_origin in record["mistakes"].values() for mistake in of_origin):
        del misclassification["rgb"]
    write_atomic(out / EVALUATION_JSON, (json.dumps({"schema": EVALUATION_SCHEMA, **record}, indent=2) + "\n").encode())
    write_atomic(out / EVALUATION_MD, text.encode(errors="backslashreplace"))
    for name, draw in _iter_figures(result):
        png = BytesIO()
        draw(png)
        write_atomic(out / name, png.getvalue())


def _iter_figures(result: Evaluation) -> Iterator[tuple[str, Callable[[BytesIO], None]]]:
    """The name of each, and what draws it."""
    from wbctool.evaluation.figures import draw_confusion, draw_coverage, draw_misclassifications, draw_reliability

    for dataset, misclassifications in result.misclassifications.items():
        if misclassifications:
            yield _figure_name(MISTAKES, dataset), partial(draw_misclassifications, misclassifications, dataset)
    for report in result.classifier:
        yield _figure_name(CONFUSION, report.dataset), partial(draw_confusion, report)
        yield _figure_name(RELIABILITY, report.dataset), partial(draw_reliability, report)
        yield _figure_name(COVERAGE, report.dataset), partial(draw_coverage, report)


def _figure_name(kind: str, dataset: str) -> str:
    """A name of one file, whatever a data set's sources.csv calls its origin."""
    return f"{kind}-{dataset.replace('/', '_')}.png"


def _group_by_dataset(images: Sequence[LabelledImage]) -> dict[str, list[LabelledImage]]:
    members: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        members[image.dataset].append(image)
    return members


def _score_detectors(
    fields: list[LabelledField], detect: Callable[[Field], Sequence[Detection]], progress: Progress
) -> dict[str, DetectionScore]:
    pairs: dict[str, list[Any]] = defaultdict(list)
    for field in progress(fields, len(fields), "fields: finding cells"):
        detections = sorted(detect(read_labelled_field(field.path)), key=lambda d: -d.score)
        annotated = [b.box for b in field.boxes if b.object_class is ObjectClass.NUCLEATED]
        pairs[field.origin].append((annotated, [d.box for d in detections]))
    return {origin: score_detections(pairs[origin]) for origin in sorted(pairs)}
