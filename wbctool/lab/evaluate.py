"""`wbctool evaluate`: labelled data through the stages of a run, with the ONNX models alone."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wbctool.cards import GeneratorCard
from wbctool.errors import FieldUnreadable, LabelledDataInvalid
from wbctool.lab.cells import labelled_cell
from wbctool.lab.labelled import (
    LabelledField,
    LabelledImage,
    Split,
    Splitting,
    fields_folders,
    read_class_folders,
    read_fields,
)
from wbctool.lab.metrics import (
    DetectionScore,
    accuracy_by_source,
    calibration_error,
    cluster_interval,
    score_detections,
)
from wbctool.lab.progress import Progress
from wbctool.lab.super_resolution import SuperResolutionRow, compare_generators
from wbctool.labels import CellClass
from wbctool.onnx_model import Models, OnnxModel
from wbctool.records import Crop, Field, Outcome, Prediction, Target
from wbctool.settings import SuperResolve
from wbctool.stages.classify import classify_cells
from wbctool.stages.crop import crop_cells
from wbctool.stages.detect import detect_cells
from wbctool.stages.images import read_field
from wbctool.stages.upscale import prepare_crops

_BATCH = 32


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """One data set's cells through detector, cropper, super-resolution and classifier.

    accuracy: per image, review cells too. ci95: by source. covered: the share that a run would not send to review.
    not_found: images in which the detector proposed nothing at all.
    """

    origin: str
    images: int
    sources: int
    accuracy: float
    ci95_low: float
    ci95_high: float
    accuracy_per_source: float
    calibration_error: float
    covered: float
    accuracy_covered: float
    per_class: dict[str, dict[str, float]]
    classes: tuple[str, ...]
    confusion: list[list[int]]
    not_found: int
    confidences: tuple[float, ...]
    right: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that DATA allowed to measure."""

    data: str
    split: str
    super_resolve: str
    classifier: tuple[ClassifierReport, ...]
    detection: dict[str, DetectionScore]
    super_resolution: tuple[SuperResolutionRow, ...]


def evaluate(
    data: Path,
    models: Models,
    generators: Sequence[OnnxModel[GeneratorCard]],
    split: Split | None,
    mode: SuperResolve = SuperResolve.AUTO,
    sr_cells: int = 150,
    progress: Progress = lambda items, _total, _what: items,
) -> Evaluation:
    """Measure the models on labelled data.

    data: class folders, fields with boxes, or a folder that holds several. split: only its sources, as the
    models' cards tell them; None: all.
    generators: those to compare on 32-pixel cells. sr_cells: at most this many of each data set for that comparison.

    Raises LabelledDataInvalid where nothing labelled is found.
    """

    def chosen(items: Iterable[Any], model: OnnxModel[Any]) -> list[Any]:
        splitting = Splitting.of_card(model.card.training)
        return [item for item in items if split is None or splitting.of(item) is split]

    images: list[LabelledImage] = chosen(read_class_folders(data), models.classifier)
    all_fields = (field for folder in fields_folders(data) for field in read_fields(folder))
    fields: list[LabelledField] = chosen(all_fields, models.detector)
    known = [i for i in images if i.label in models.classifier.card.classes]
    if not known and not fields:
        raise LabelledDataInvalid(
            f"{data}: no labelled cell or field" + (f" in the split {split.value}" if split else "")
        )
    reports, rows = [], []
    for origin, members in sorted(_by_origin(known).items()):
        report, crops = _classify(origin, members, models, mode, progress)
        reports.append(report)
        labels = [m.label for m in members]
        rows += compare_generators(origin, crops, labels, models, generators, sr_cells, progress)
    return Evaluation(
        data=data.name,
        split=split.value if split else "all",
        super_resolve=mode.value,
        classifier=tuple(reports),
        detection=_detection(fields, models, progress),
        super_resolution=tuple(rows),
    )


def write_evaluation(result: Evaluation, out: Path) -> None:
    """evaluation.json and the figures into the folder ``out``."""
    from wbctool.lab.figures import draw_confusion, draw_coverage, draw_reliability

    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_text(json.dumps(asdict(result), indent=2) + "\n", encoding="utf-8")
    for report in result.classifier:
        draw_confusion(report, out / f"confusion-{report.origin}.png")
        draw_reliability(report, out / f"reliability-{report.origin}.png")
        draw_coverage(report, out / f"coverage-{report.origin}.png")


def _by_origin(images: Sequence[LabelledImage]) -> dict[str, list[LabelledImage]]:
    members: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        members[image.origin].append(image)
    return members


def _classify(
    origin: str, images: list[LabelledImage], models: Models, mode: SuperResolve, progress: Progress
) -> tuple[ClassifierReport, list[Crop]]:
    crops: list[Crop] = []
    not_found = 0
    for image in progress(images, len(images), f"{origin}: finding cells"):
        field = _read(image.path)
        found = labelled_cell(field, models.detector)
        not_found += found.score == 0.0
        crops += crop_cells(field, [found.box], models.classifier.card.crop_margin)
    predictions: list[Prediction] = []
    starts = range(0, len(crops), _BATCH)
    for start in progress(starts, len(starts), f"{origin}: classifying"):
        prepared = prepare_crops(crops[start : start + _BATCH], models.generator, mode)
        predictions += classify_cells(prepared.rgb, models.classifier)
    return _report(origin, images, predictions, models.classifier.card.classes, not_found), crops


def _report(
    origin: str,
    images: Sequence[LabelledImage],
    predictions: Sequence[Prediction],
    classes: Sequence[CellClass],
    not_found: int,
) -> ClassifierReport:
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    wanted = [str(i.label) for i in images]
    got = [str(p.label) for p in predictions]
    names = [str(c) for c in classes]
    right = np.array([w == g for w, g in zip(wanted, got, strict=True)])
    confidence = np.array([p.confidence for p in predictions])
    covered = np.array([p.outcome is not Outcome.REVIEW for p in predictions])
    sources = [i.source for i in images]
    per_source, number = accuracy_by_source(right, sources)
    low, high = cluster_interval(right, sources)
    columns = precision_recall_fscore_support(wanted, got, labels=names, zero_division=0.0)
    per_class = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for name, p, r, f, s in zip(names, *columns, strict=True)
    }
    return ClassifierReport(
        origin=origin,
        images=len(images),
        sources=number,
        accuracy=float(right.mean()),
        ci95_low=low,
        ci95_high=high,
        accuracy_per_source=per_source,
        calibration_error=calibration_error(confidence, right),
        covered=float(covered.mean()),
        accuracy_covered=float(right[covered].mean()) if covered.any() else 0.0,
        per_class=per_class,
        classes=tuple(names),
        confusion=confusion_matrix(wanted, got, labels=names).tolist(),
        not_found=not_found,
        confidences=tuple(round(c, 4) for c in confidence.tolist()),
        right=tuple(right.tolist()),
    )


def _detection(fields: list[LabelledField], models: Models, progress: Progress) -> dict[str, DetectionScore]:
    pairs: dict[str, list[Any]] = defaultdict(list)
    for field in progress(fields, len(fields), "fields: finding cells"):
        found = sorted(detect_cells(_read(field.path), models.detector), key=lambda d: -d.score)
        annotated = [b.box for b in field.boxes if b.target is Target.NUCLEATED]
        pairs[field.origin].append((annotated, [d.box for d in found]))
    return {origin: score_detections(pairs[origin]) for origin in sorted(pairs)}


def _read(path: Path) -> Field:
    try:
        return read_field(path)
    except FieldUnreadable as error:
        raise LabelledDataInvalid(f"{path}: {error}") from error
