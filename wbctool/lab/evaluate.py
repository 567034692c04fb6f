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

from wbctool.batch.publish import publish
from wbctool.cards import GeneratorCard
from wbctool.choices import SuperResolve
from wbctool.errors import LabelledDataInvalid
from wbctool.lab.classification import (
    ClassifierReport,
    Mistake,
    find_crops,
    predict,
    read_labelled,
    report_classifier,
    worst_mistakes,
)
from wbctool.lab.labelled import (
    LabelledField,
    LabelledImage,
    Split,
    Splitting,
    fields_folders,
    read_class_folders,
    read_fields,
)
from wbctool.lab.metrics import DetectionScore, score_detections
from wbctool.lab.precisions import PrecisionReport, compare_precisions
from wbctool.lab.progress import Progress
from wbctool.lab.strangers import StrangersReport, show_strangers
from wbctool.lab.super_resolution import SuperResolutionRow, compare_generators
from wbctool.layout import (
    CONFUSION,
    COVERAGE,
    EVALUATION,
    EVALUATION_SCHEMA,
    EVALUATION_TEXT,
    MISTAKES,
    RELIABILITY,
)
from wbctool.models import Models
from wbctool.onnx_model import OnnxModel
from wbctool.records import Crop, Detection, Field, Target
from wbctool.stages.detect import detect_cells
from wbctool.stages.nuclei import find_cells_by_nuclei

_MISTAKES_SHOWN = 24


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All that DATA allowed to measure. detection: by origin; detection_by_nuclei: the same fields, nothing learned.

    mistakes: by origin, the cells that the classifier was surest of and wrong. precisions: empty where the models
    compute in fp32.
    """

    data: str
    split: str
    super_resolve: str
    classifier: tuple[ClassifierReport, ...]
    detection: dict[str, DetectionScore]
    detection_by_nuclei: dict[str, DetectionScore]
    super_resolution: tuple[SuperResolutionRow, ...]
    strangers: tuple[StrangersReport, ...]
    mistakes: dict[str, tuple[Mistake, ...]]
    precisions: tuple[PrecisionReport, ...] = ()


def evaluate(
    data: Path,
    models: Models,
    generators: Sequence[OnnxModel[GeneratorCard]],
    split: Split | None,
    mode: SuperResolve = SuperResolve.AUTO,
    sr_cells: int = 100,
    strangers: int = 100,
    progress: Progress = lambda items, _total, _what: items,
    fp32: Models | None = None,
) -> Evaluation:
    """Measure the models on labelled data.

    data: class folders, fields with boxes, or a folder that holds several. split: only its sources, as the
    models' cards tell them; None: all.
    generators: those to compare on reduced cells. sr_cells: at most this many of each data set for that comparison.
    strangers: at most this many pictures of each kind that no class fits (wbctool.lab.strangers); 0: none.
    fp32: the same models in fp32, to name the same cells once more; None where ``models`` are these.

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
            f"{data}: no labelled cells or fields" + (f" in the split {split.value}" if split else "")
        )
    reports, rows, cells, mistakes = [], list[SuperResolutionRow](), list[Crop](), {}
    precisions = []
    for origin, members in sorted(_by_origin(known).items()):
        found = find_crops(members, models, progress, origin)
        crops = [cell.crop for cell in found]
        predictions = predict(crops, models, mode)
        if fp32 is not None:
            labels = [cell.image.label for cell in found]
            precisions.append(compare_precisions(origin, labels, predict(crops, fp32, mode), predictions))
        reports.append(report_classifier(origin, found, predictions, models.classifier.card.classes))
        mistakes[origin] = worst_mistakes(found, predictions, _MISTAKES_SHOWN)
        rows += compare_generators(origin, found, models, generators, sr_cells, progress)
        cells += crops
    unknown = [image for image in images if image.label not in models.classifier.card.classes]
    return Evaluation(
        data=data.resolve().name,
        split=split.value if split else "all",
        super_resolve=mode.value,
        classifier=tuple(reports),
        detection=_detection(fields, lambda field: detect_cells(field, models.detector), progress),
        detection_by_nuclei=_detection(fields, find_cells_by_nuclei, progress),
        super_resolution=tuple(rows),
        strangers=show_strangers(
            fields, cells, find_crops(unknown, models, progress, "unknown classes"), models, mode, strangers, progress
        ),
        mistakes=mistakes,
        precisions=tuple(precisions),
    )


def write_evaluation(result: Evaluation, text: str, out: Path) -> None:
    """evaluation.json, ``text`` as evaluation.md and the figures into the folder ``out``, each whole.

    The record is first: by it the figures beside it are known to be no fields. Raises OutputNotWritable.
    """
    facts = asdict(result)
    for mistake in (mistake for of_origin in facts["mistakes"].values() for mistake in of_origin):
        del mistake["rgb"]
    publish(out / EVALUATION, (json.dumps({"schema": EVALUATION_SCHEMA, **facts}, indent=2) + "\n").encode())
    publish(out / EVALUATION_TEXT, text.encode(errors="backslashreplace"))
    for name, draw in _figures(result):
        png = BytesIO()
        draw(png)
        publish(out / name, png.getvalue())


def _figures(result: Evaluation) -> Iterator[tuple[str, Callable[[BytesIO], None]]]:
    """The name of each, and what draws it."""
    from wbctool.lab.figures import draw_confusion, draw_coverage, draw_mistakes, draw_reliability

    for origin, mistakes in result.mistakes.items():
        if mistakes:
            yield _figure(MISTAKES, origin), partial(draw_mistakes, mistakes, origin)
    for report in result.classifier:
        yield _figure(CONFUSION, report.origin), partial(draw_confusion, report)
        yield _figure(RELIABILITY, report.origin), partial(draw_reliability, report)
        yield _figure(COVERAGE, report.origin), partial(draw_coverage, report)


def _figure(what: str, origin: str) -> str:
    """A name of one file, whatever a data set's sources.csv calls its origin."""
    return f"{what}-{origin.replace('/', '_')}.png"


def _by_origin(images: Sequence[LabelledImage]) -> dict[str, list[LabelledImage]]:
    members: dict[str, list[LabelledImage]] = defaultdict(list)
    for image in images:
        members[image.origin].append(image)
    return members


def _detection(
    fields: list[LabelledField], find: Callable[[Field], Sequence[Detection]], progress: Progress
) -> dict[str, DetectionScore]:
    pairs: dict[str, list[Any]] = defaultdict(list)
    for field in progress(fields, len(fields), "fields: finding cells"):
        found = sorted(find(read_labelled(field.path)), key=lambda d: -d.score)
        annotated = [b.box for b in field.boxes if b.target is Target.NUCLEATED]
        pairs[field.origin].append((annotated, [d.box for d in found]))
    return {origin: score_detections(pairs[origin]) for origin in sorted(pairs)}
