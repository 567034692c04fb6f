"""`python -m experiments.backbones`: the paper's Table 6, four backbones trained with one recipe.

Prints our results beside the paper's, and writes tables, curves and confusion matrices to OUT/training/compare.
"""

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
from wbctool_training.context import TrainingContext
from wbctool_training.copied_models import copy_bundled_models
from wbctool_training.curves import read_curves
from wbctool_training.data.cell_index import CellRef
from wbctool_training.export import ClassifierGraph
from wbctool_training.models.backbones import Backbone
from wbctool_training.recipe_files import load_recipe
from wbctool_training.train import make_context
from wbctool_training.trainers.classifier import compute_outputs, fit_classifier
from wbctool_training.trainers.classifier_split import gather_cells
from wbctool_training.weights import load_imagenet_features

from experiments.options import add_training_options, make_parser, to_training_options
from wbctool.datasets.labelled import evenly_spaced
from wbctool.enums import TrainStage
from wbctool.errors import ModelMismatch, ModelNotFound
from wbctool.evaluation.figures import draw_confusion_matrix
from wbctool.evaluation.metrics import cluster_bootstrap_interval

log = logging.getLogger(__name__)

OUTPUT_SUBDIR = "compare"
_MAX_TRAIN_CELLS = 1000  # training cells for the train columns, evenly spaced


@dataclass(frozen=True, slots=True)
class PaperResult:
    """One row of Table 6 of Ferdousi et al. 2024, doi 10.1016/j.teler.2024.100163.

    Attributes:
        train: Training accuracy in percent.
        validation: Validation accuracy in percent.
        test: Test accuracy in percent.
        train_loss: Training loss.
        validation_loss: Validation loss.
        test_loss: Test loss.
    """

    train: float
    validation: float
    test: float
    train_loss: float
    validation_loss: float
    test_loss: float


PAPER_TABLE_6 = {
    Backbone.EFFICIENTNET_B7: PaperResult(47.65, 46.47, 53.10, 1.161, 1.18, 1.0915),
    Backbone.RESNET50: PaperResult(73.46, 63.02, 71.68, 0.5807, 0.90, 0.659),
    Backbone.VGG16: PaperResult(96.48, 94.07, 93.47, 0.1011, 0.1624, 0.175),
    Backbone.VGG19: PaperResult(97.41, 93.22, 94.87, 0.0709, 0.1842, 0.1192),
}


@dataclass(frozen=True, slots=True)
class SplitMetrics:
    """Results of one network on one split.

    Attributes:
        n_cells: Number of cells.
        accuracy: The accuracy in percent.
        ci95: 95 % interval of the accuracy by a bootstrap over groups, in percent.
        loss: Mean cross-entropy in nats.
    """

    n_cells: int
    accuracy: float
    ci95: tuple[float, float]
    loss: float


@dataclass(frozen=True, slots=True)
class BackboneResult:
    """One row of our Table 6.

    Attributes:
        backbone: Which network.
        init: Its initial weights: ImageNet or random.
        n_samples: Images used in training.
        train: Results on training cells.
        validation: Results on validation cells.
        test: Results on test cells.
    """

    backbone: Backbone
    init: str
    n_samples: int
    train: SplitMetrics
    validation: SplitMetrics
    test: SplitMetrics


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, train and test every backbone, and print the table."""
    parser = make_parser(__doc__)
    add_training_options(parser)
    args = parser.parse_args(argv)
    context = make_context(to_training_options(args), load_recipe(args.recipe))
    copy_bundled_models(context, [TrainStage.CLASSIFIER])
    print(format_comparison(compare_backbones(context)))


def compare_backbones(context: TrainingContext) -> tuple[BackboneResult, ...]:
    """Train and test every backbone with the same cells, recipe and number of samples.

    Writes table6.csv, table6.md, each network's confusion matrix (the paper's figure 13) and all curves (figures 14 to
    16) to ``out/training/compare``.

    Args:
        context: The context of the training; ``out`` holds the detector.
    """
    config = context.recipe.classifier
    cells = gather_cells(context, config, include_test=True)
    train_subset = evenly_spaced(cells.train, _MAX_TRAIN_CELLS)
    rows = []
    for backbone in PAPER_TABLE_6:
        features, init = _load_initial_features(context, backbone)
        network = fit_classifier(context, config, f"{OUTPUT_SUBDIR}/{backbone}", cells, backbone, features)
        graph = ClassifierGraph(network.eval(), len(context.recipe.classes))
        test, confusion = _measure(graph, cells.test, context)
        n_samples = config.epoch_samples * _count_epochs(context, backbone)
        train, validation = (_measure(graph, split, context)[0] for split in (train_subset, cells.validation))
        rows.append(BackboneResult(backbone, init, n_samples, train, validation, test))
        names = [label.value for label in context.recipe.outputs_of(config)]
        title = f"{backbone}: {test.n_cells} test cells, {test.accuracy:.1f} % correct"
        draw_confusion_matrix(confusion, names, title, context.work_path(OUTPUT_SUBDIR) / f"confusion-{backbone}.png")
    results = tuple(rows)
    write_comparison(results, context.work_path(OUTPUT_SUBDIR))
    return results


def write_comparison(rows: Sequence[BackboneResult], folder: Path) -> None:
    """Write table6.md, table6.csv and backbones.png, the curves of all trainings.

    Args:
        rows: One per backbone.
        folder: Where the trainings' folders are and the files go.
    """
    (folder / "table6.md").write_text(format_comparison(rows), encoding="utf-8")
    with (folder / "table6.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        columns = ("cells", "accuracy_pct", "ci95_low", "ci95_high", "loss")
        splits = ("train", "validation", "test")
        writer.writerow(("backbone", "start", "samples", *(f"{split}_{c}" for split in splits for c in columns)))
        for row in rows:
            splits_metrics = (row.train, row.validation, row.test)
            figures = (f"{v:.4f}" for m in splits_metrics for v in (m.n_cells, m.accuracy, *m.ci95, m.loss))
            writer.writerow((row.backbone, row.init, row.n_samples, *figures))
    _draw_curves({row.backbone: folder / row.backbone / "metrics" for row in rows}, folder / "backbones.png")


def format_comparison(rows: Sequence[BackboneResult]) -> str:
    """Return Table 6 in Markdown, with the paper's figures in brackets.

    Args:
        rows: One per backbone.
    """
    columns = ("backbone", "start", "images drawn", "train %", "val %", "test % (95 % by group)")
    lines: list[tuple[str, ...]] = [(*columns, "train loss", "val loss", "test loss"), ("---",) * 9]
    for row in rows:
        splits, paper = (row.train, row.validation, row.test), PAPER_TABLE_6[row.backbone]
        low, high = row.test.ci95
        accuracies = [f"{metrics.accuracy:.2f}" for metrics in splits]
        accuracies[2] += f", {low:.1f} to {high:.1f}"
        values = (*accuracies, *(f"{metrics.loss:.4f}" for metrics in splits))
        columns_with_paper = (
            f"{value} ({paper_value:g})" for value, paper_value in zip(values, astuple(paper), strict=True)
        )
        lines.append((row.backbone.value, row.init, str(row.n_samples), *columns_with_paper))
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\nIn brackets: Ferdousi et al. 2024, Table 6, whose splits are not by group.\n"


def _load_initial_features(context: TrainingContext, backbone: Backbone) -> tuple[nn.Sequential | None, str]:
    """Load ImageNet convolutions from the user's file if it fits, else torchvision's; None for random weights."""
    for path in dict.fromkeys((context.options.imagenet_weights, None)):
        try:
            return load_imagenet_features(path, backbone), "ImageNet"
        except (ModelMismatch, ModelNotFound) as error:
            log.info("%s: %s", backbone, str(error).splitlines()[0])
    log.warning("%s: no ImageNet weights are available; starting from random ones", backbone)
    return None, "random"


def _count_epochs(context: TrainingContext, backbone: Backbone) -> int:
    """Return how many epochs a backbone was trained, including resumptions."""
    return int(read_curves(context.work_path(f"{OUTPUT_SUBDIR}/{backbone}") / "metrics")["epoch"].max()) + 1


def _measure(
    graph: nn.Module, cells: Sequence[CellRef], context: TrainingContext
) -> tuple[SplitMetrics, NDArray[np.int64]]:
    """Return one split's results and confusion matrix, (n_classes, n_classes), with the true class by row."""
    outputs = context.recipe.outputs_of(context.recipe.classifier)
    logits, _, y_true = compute_outputs(graph, cells, outputs, context)
    y_pred, n_classes = logits.argmax(axis=1), len(outputs)
    correct = y_pred == y_true
    low, high = cluster_bootstrap_interval(correct, [cell.group for cell in cells])
    loss = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(len(y_true)), y_true].mean()
    confusion = np.bincount(n_classes * y_true + y_pred, minlength=n_classes**2).reshape(n_classes, n_classes)
    return SplitMetrics(len(cells), 100 * float(correct.mean()), (100 * low, 100 * high), float(loss)), confusion


def _draw_curves(metrics: dict[Backbone, Path], path: Path) -> None:
    """Draw accuracy and loss against epochs, training dashed and validation solid."""
    quantities = ("accuracy", "loss")
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(9, 3.4), layout="constrained")
        panels = figure.subplots(1, 2)
        for index, (backbone, folder) in enumerate(metrics.items()):
            points: pd.DataFrame = read_curves(folder).groupby("epoch").last()
            for axes, quantity in zip(panels, quantities, strict=True):
                for column, style in ((f"train_{quantity}_epoch", "--"), (f"val_{quantity}", "-")):
                    values = points[column].dropna()
                    label = backbone.value if style == "-" else None
                    axes.plot(values.index + 1, values, style, color=f"C{index}", marker=".", label=label)
                axes.set(xlabel="epoch", title=f"{quantity}: validation; training dashed")
        panels[1].legend(frameon=False)
        figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
