"""`wbctool train --compare`: the paper's Table 6, four backbones under one recipe, beside the paper's figures."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import nn

from training.curves import read_curves
from training.data.cells import CellSample
from training.export import ClassifierGraph
from training.models.backbones import Backbone
from training.stages.classifier import fit_classifier, gather_cells, logits_of
from training.weights import imagenet_features
from training.workplace import Workplace
from wbctool.errors import ModelMismatch, ModelNotFound
from wbctool.lab.figures import draw_matrix
from wbctool.lab.metrics import cluster_interval
from wbctool.lab.sampling import spread

log = logging.getLogger(__name__)

FOLDER = "compare"
_TRAIN_SHOWN = 1000  # training cells on which the train columns are measured, evenly spread


@dataclass(frozen=True, slots=True)
class PaperRow:
    """Accuracies in percent and losses, as Ferdousi et al. 2024 print them in Table 6."""

    train: float
    validation: float
    test: float
    train_loss: float
    validation_loss: float
    test_loss: float


PAPER_TABLE_6 = {
    Backbone.EFFICIENTNET_B7: PaperRow(47.65, 46.47, 53.10, 1.161, 1.18, 1.0915),
    Backbone.RESNET50: PaperRow(73.46, 63.02, 71.68, 0.5807, 0.90, 0.659),
    Backbone.VGG16: PaperRow(96.48, 94.07, 93.47, 0.1011, 0.1624, 0.175),
    Backbone.VGG19: PaperRow(97.41, 93.22, 94.87, 0.0709, 0.1842, 0.1192),
}


@dataclass(frozen=True, slots=True)
class Measured:
    """One split's cells through one network. accuracy: in percent, ci95 by source; loss: cross-entropy in nats."""

    cells: int
    accuracy: float
    ci95: tuple[float, float]
    loss: float


@dataclass(frozen=True, slots=True)
class ComparedBackbone:
    """One row of our Table 6. start: where its weights began. samples: images drawn in training."""

    backbone: Backbone
    start: str
    samples: int
    train: Measured
    validation: Measured
    test: Measured


def compare_backbones(work: Workplace) -> tuple[ComparedBackbone, ...]:
    """Train and test every backbone with the same cells, recipe and budget.

    Writes table6.csv, table6.md, each one's test confusion (figure 13) and the curves of all (figures 14 to 16) to
    ``out/training/compare``; needs the detector in ``out``. Test cells are those of the held-back sources.
    """
    cells = gather_cells(work, prepare_held_back=True)
    shown = spread(cells.train, _TRAIN_SHOWN)
    rows = []
    for backbone in PAPER_TABLE_6:
        features, start = _start(work, backbone)
        network = fit_classifier(work, f"{FOLDER}/{backbone}", cells, backbone, features)
        graph = ClassifierGraph(network.eval())
        test, confusion = _measure(graph, cells.held_back, work)
        samples = work.recipe.classifier.epoch_samples * _epochs(work, backbone)
        train, validation = (_measure(graph, split, work)[0] for split in (shown, cells.validation))
        rows.append(ComparedBackbone(backbone, start, samples, train, validation, test))
        names = [label.value for label in work.recipe.classes]
        title = f"{backbone}: {test.cells} held-back cells, {test.accuracy:.1f} % right"
        draw_matrix(confusion, names, title, work.folder(FOLDER) / f"confusion-{backbone}.png")
    compared = tuple(rows)
    write_comparison(compared, work.folder(FOLDER))
    return compared


def write_comparison(rows: Sequence[ComparedBackbone], folder: Path) -> None:
    """table6.md and table6.csv, and the curves of the trainings that lie in ``folder``."""
    (folder / "table6.md").write_text(table_as_text(rows), encoding="utf-8")
    with (folder / "table6.csv").open("w", newline="", encoding="utf-8") as lines:
        table = csv.writer(lines, lineterminator="\n")
        columns = ("cells", "accuracy_pct", "ci95_low", "ci95_high", "loss")
        splits = ("train", "validation", "test")
        table.writerow(("backbone", "start", "samples", *(f"{split}_{c}" for split in splits for c in columns)))
        for row in rows:
            parts = (row.train, row.validation, row.test)
            figures = (f"{v:.4f}" for m in parts for v in (m.cells, m.accuracy, *m.ci95, m.loss))
            table.writerow((row.backbone, row.start, row.samples, *figures))
    _draw_curves({row.backbone: folder / row.backbone / "metrics" for row in rows}, folder / "backbones.png")


def table_as_text(rows: Sequence[ComparedBackbone]) -> str:
    """Table 6 in Markdown: ours, and the paper's figures in brackets."""
    columns = ("backbone", "start", "images drawn", "train %", "val %", "test % (95 % by source)")
    lines: list[tuple[str, ...]] = [(*columns, "train loss", "val loss", "test loss"), ("---",) * 9]
    for row in rows:
        parts, paper = (row.train, row.validation, row.test), PAPER_TABLE_6[row.backbone]
        low, high = row.test.ci95
        accuracies = [f"{part.accuracy:.2f}" for part in parts]
        accuracies[2] += f", {low:.1f} to {high:.1f}"
        ours = (*accuracies, *(f"{part.loss:.4f}" for part in parts))
        beside = (f"{mine} ({theirs:g})" for mine, theirs in zip(ours, astuple(paper), strict=True))
        lines.append((row.backbone.value, row.start, str(row.samples), *beside))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\nIn brackets: Ferdousi et al. 2024, Table 6, whose splits are not by source.\n"


def _start(work: Workplace, backbone: Backbone) -> tuple[nn.Sequential | None, str]:
    """ImageNet convolutions: the user's file where it fits, else torchvision's; random where neither can be had."""
    for path in dict.fromkeys((work.imagenet_weights, None)):
        try:
            return imagenet_features(path, backbone), "ImageNet"
        except (ModelMismatch, ModelNotFound) as error:
            log.info("%s: %s", backbone, str(error).splitlines()[0])
    log.warning("%s: no ImageNet weights are available; it starts from random ones", backbone)
    return None, "random"


def _epochs(work: Workplace, backbone: Backbone) -> int:
    return int(read_curves(work.folder(f"{FOLDER}/{backbone}") / "metrics")["epoch"].max()) + 1


def _measure(graph: nn.Module, cells: Sequence[CellSample], work: Workplace) -> tuple[Measured, NDArray[np.int64]]:
    """The figures of one split, and its confusion matrix: true class by row."""
    logits, wanted = logits_of(graph, cells, work)
    said, classes = logits.argmax(axis=1), len(work.recipe.classes)
    right = said == wanted
    low, high = cluster_interval(right, [cell.source for cell in cells])
    loss = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(wanted)), wanted].mean()
    confusion = np.bincount(classes * wanted + said, minlength=classes**2).reshape(classes, classes)
    return Measured(len(cells), 100 * float(right.mean()), (100 * low, 100 * high), float(loss)), confusion


def _draw_curves(metrics: dict[Backbone, Path], picture: Path) -> None:
    """Accuracy and loss against epochs: training dashed, validation whole."""
    quantities = ("accuracy", "loss")
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        panels = figure.subplots(1, 2)
        for number, (backbone, folder) in enumerate(metrics.items()):
            points: pd.DataFrame = read_curves(folder).groupby("epoch").mean(numeric_only=True)
            for axes, quantity in zip(panels, quantities, strict=True):
                for column, style in ((f"train_{quantity}_epoch", "--"), (f"val_{quantity}", "-")):
                    values = points[column].dropna()
                    label = backbone.value if style == "-" else None
                    axes.plot(values.index + 1, values, style, color=f"C{number}", marker=".", label=label)
                axes.set(xlabel="epoch", title=f"{quantity}: validation; training dashed")
        panels[1].legend(frameon=False)
        figure.savefig(picture, dpi=150)
