"""`python -m experiments.leakage`: the paper's classifier on copies split at random, and split by their originals.

The Kaggle set holds many copies of each original. Split at random, as the published figures were, copies of one cell
lie on both sides; split by original, they do not. Everything else is the same, so the difference is what leaks: a test
for leakage, not a better classifier. The convolutions keep ImageNet's weights, or the last block is trained, too.

Prints Table 5 (precision, recall, F1, support) for each setup, and writes it to OUT.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import classification_report
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from wbctool_training.copied_models import copy_bundled_models
from wbctool_training.data.cell_index import CellRef, preprocess_cells
from wbctool_training.data.classification_dataset import paper_augmentation
from wbctool_training.data.sr_pairs import degrade_to_lr
from wbctool_training.models.backbones import vgg_block_end
from wbctool_training.models.classifier import CellClassifier, NormalizedClassifier
from wbctool_training.recipe_files import load_recipe
from wbctool_training.train import make_context
from wbctool_training.weights import load_imagenet_features

from experiments.options import add_start_options, make_parser, to_start_options
from wbctool.enums import TrainStage
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import GeneratorCard, default_models_dir
from wbctool.inference.session import SUPER_RESOLVED
from wbctool.store.atomic_write import write_atomic

log = logging.getLogger(__name__)

RESULT = "table5.md"
_FOLDS = 10  # one to test, one to validate, the others to train: 80/10/10
# The paper's hyperparameters.
_BATCH, _LR, _EPOCHS = 4, 1e-3, 50
_MIN_DELTA, _STOP_PATIENCE, _LR_FACTOR, _LR_PATIENCE = 0.1, 3, 0.2, 2
_EVAL_BATCH = 32


@dataclass(frozen=True, slots=True)
class CellMaps:
    """Cells as the trained part of the network takes them.

    Attributes:
        maps: (N, 512, h, w) float16, the output of the frozen blocks.
        y_true: (N,) int64, class indices.
        groups: The original of each cell.
        parents: (N,) int64, the cell that each one was made from; its own index for a real cell.
    """

    maps: Tensor
    y_true: NDArray[np.int64]
    groups: NDArray[np.str_]
    parents: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Setup:
    """How a classifier is trained and tested.

    Attributes:
        split: ``random`` or ``by original``.
        trained: What of the network is trained: ``head`` or ``last block and head``.
        generated: Number of generated images of each class.
    """

    split: str
    trained: str
    generated: int


def main(argv: Sequence[str] | None = None) -> None:
    """Parse the options, train and test in each setup, and print and write the tables."""
    parser = make_parser(__doc__)
    add_start_options(parser)
    parser.add_argument("--generated", type=int, default=300, metavar="N", help="generated images of each class")
    parser.add_argument("--folds", type=int, default=_FOLDS, choices=range(1, _FOLDS + 1), help="folds to test")
    parser.add_argument("--last-block-folds", type=int, default=1, choices=range(_FOLDS + 1), help="0: leave it out")
    args = parser.parse_args(argv)
    context = make_context(to_start_options(args), load_recipe(args.recipe))
    copy_bundled_models(context, [TrainStage.CLASSIFIER])
    torch.manual_seed(context.recipe.seed)
    classes = context.recipe.classes
    cells = [cell for cell in context.load_cells() if cell.label in classes]
    y_true = np.array([classes.index(cell.label) for cell in cells])
    network = NormalizedClassifier(CellClassifier(len(classes)), white_balance=False)
    network.network.features = load_imagenet_features(args.imagenet_weights)
    rgb = preprocess_cells(cells, context.recipe.crop_margin)
    sections = []
    for trained, n_folds in (("head", args.folds), ("last block and head", args.last_block_folds)):
        if not n_folds:
            continue
        split_at = vgg_block_end(5 if trained == "head" else 4)
        real = compute_maps(network, split_at, rgb, y_true, cells, np.arange(len(cells)))
        generated = None
        if args.generated and trained == "head":
            parents, images = generate_images(rgb, y_true, args.generated, context.recipe.seed)
            generated = compute_maps(network, split_at, images, y_true[parents], [cells[i] for i in parents], parents)
        for split in ("random", "by original"):
            for extra in (None, generated) if generated is not None else (None,):
                setup = Setup(split, trained, args.generated if extra is not None else 0)
                true, predicted = cross_validate(network, split_at, real, extra, split, n_folds, context.recipe.seed)
                sections.append(format_table(setup, true, predicted, [label.value for label in classes]))
                print(sections[-1], flush=True)
    write_atomic(args.out / RESULT, "\n".join(sections).encode())


def compute_maps(
    network: NormalizedClassifier,
    split_at: int,
    rgb: NDArray[np.uint8],
    y_true: NDArray[np.int64],
    cells: Sequence[CellRef],
    parents: NDArray[np.int64],
) -> CellMaps:
    """Run the frozen blocks once.

    Args:
        network: The classifier with ImageNet's convolutions.
        split_at: The first layer that is trained; after the last layer, maps are averaged over the image.
        rgb: (N, 128, 128, 3) uint8 RGB.
        y_true: (N,) class indices.
        cells: The N cells, for their originals.
        parents: (N,) the cell that each one was made from.

    Returns:
        The maps of the N cells, in order.
    """
    frozen = network.network.features[:split_at].eval()
    is_whole = split_at == len(network.network.features)
    maps = []
    for start in range(0, len(rgb), _EVAL_BATCH):
        pixels = torch.from_numpy(rgb[start : start + _EVAL_BATCH]).permute(0, 3, 1, 2).float()
        with torch.inference_mode():
            output = frozen((pixels - network.mean) / network.std)
        maps.append((output.mean(dim=(2, 3), keepdim=True) if is_whole else output).half())
    return CellMaps(torch.cat(maps), y_true, np.array([cell.group for cell in cells]), parents)


def generate_images(
    rgb: NDArray[np.uint8], y_true: NDArray[np.int64], n_images: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Make images as the paper enlarges its training set: a cell is augmented, reduced to 32×32 and super-resolved.

    The paper trains one generator for each class; here it is the shipped one, for all classes.

    Args:
        rgb: (N, 128, 128, 3) uint8 RGB.
        y_true: (N,) class indices.
        n_images: Images of each class.
        seed: The seed of the random numbers.

    Returns:
        (M,) the cell that each image was made from, and the images, (M, 128, 128, 3) uint8 RGB.
    """
    generator, rng = load_model(default_models_dir(), GeneratorCard), np.random.default_rng(seed)
    parents = np.concatenate([rng.choice(np.flatnonzero(y_true == label), n_images) for label in np.unique(y_true)])
    small = np.stack([degrade_to_lr(paper_augmentation(rgb[parent], rng)) for parent in parents])
    batches = [small[start : start + _EVAL_BATCH] for start in range(0, len(small), _EVAL_BATCH)]
    return parents, np.concatenate([generator.run(batch, SUPER_RESOLVED)[0] for batch in batches])


def iter_folds(
    cells: CellMaps, split: str, n_folds: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield training, validation and test cells of each fold.

    Args:
        cells: The real cells.
        split: ``random``, or ``by original``, which keeps the copies of an original together.
        n_folds: How many of ten folds to yield.
        seed: The seed of the random order.
    """
    kind, groups = (StratifiedKFold, None) if split == "random" else (StratifiedGroupKFold, cells.groups)
    folds = kind(_FOLDS, shuffle=True, random_state=seed)
    parts = [test for _, test in folds.split(cells.y_true, cells.y_true, groups)]
    for index in range(n_folds):
        validation = (index + 1) % _FOLDS
        train = np.concatenate([part for i, part in enumerate(parts) if i not in (index, validation)])
        yield train, parts[validation], parts[index]


def cross_validate(
    network: NormalizedClassifier,
    split_at: int,
    cells: CellMaps,
    generated: CellMaps | None,
    split: str,
    n_folds: int,
    seed: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Train and test on folds.

    Args:
        network: The classifier; each fold starts from a copy of it with a new head.
        split_at: The first convolutional layer that is trained.
        cells: The real cells.
        generated: Images made from them, of which a fold takes those made from its training cells.
        split: ``random`` or ``by original``, as in :func:`iter_folds`.
        n_folds: How many of ten folds to test.
        seed: The seed of the folds and of the training.

    Returns:
        True and predicted class indices of all test cells, (N,) each.
    """
    true, predicted = [], []
    for fold, (train, validation, test) in enumerate(iter_folds(cells, split, n_folds, seed)):
        maps, y_true = [cells.maps[train]], [cells.y_true[train]]
        if generated is not None:
            from_train = np.isin(generated.parents, train)
            maps.append(generated.maps[torch.from_numpy(from_train)])
            y_true.append(generated.y_true[from_train])
        torch.manual_seed(seed + fold)
        trained_part = make_trained_part(network, split_at)
        validation_set = (cells.maps[validation], torch.from_numpy(cells.y_true[validation]))
        fit(trained_part, (torch.cat(maps), torch.from_numpy(np.concatenate(y_true))), validation_set)
        true.append(cells.y_true[test])
        predicted.append(compute_logits(trained_part, cells.maps[test]).argmax(dim=1).numpy())
        log.info("%s, fold %d: %.3f correct", split, fold, float((true[-1] == predicted[-1]).mean()))
    return np.concatenate(true), np.concatenate(predicted)


def make_trained_part(network: NormalizedClassifier, split_at: int) -> nn.Sequential:
    """Return what is trained: copies of the convolutional layers from ``split_at`` on, and a new head."""
    fresh = CellClassifier(network.network.output.out_features)
    convolutions = copy.deepcopy(network.network.features[split_at:])
    return nn.Sequential(convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), fresh.dense, fresh.output)


def fit(part: nn.Sequential, train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor]) -> None:
    """Train by the paper's hyperparameters: Adam 1e-3, batches of 4, at most 50 epochs, early stopping.

    Args:
        part: What is trained, in place.
        train: Maps and class indices.
        validation: The same, for the early stopping and the learning rate.
    """
    loader = DataLoader(TensorDataset(*train), _BATCH, shuffle=True)
    optimizer = torch.optim.Adam(part.parameters(), _LR)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=_LR_FACTOR, patience=_LR_PATIENCE)
    loss_function, best, waited = nn.CrossEntropyLoss(), np.inf, 0
    for _ in range(_EPOCHS):
        part.train()
        for maps, y_true in loader:
            optimizer.zero_grad()
            loss_function(part(maps.float()), y_true).backward()
            optimizer.step()
        loss = float(loss_function(compute_logits(part, validation[0]), validation[1]))
        schedule.step(loss)
        best, waited = (loss, 0) if loss < best - _MIN_DELTA else (best, waited + 1)
        if waited >= _STOP_PATIENCE:
            break


def compute_logits(part: nn.Sequential, maps: Tensor) -> Tensor:
    """Return the logits of cells, (N, classes)."""
    part.eval()
    with torch.inference_mode():
        return torch.cat([part(batch.float()) for batch in maps.split(_EVAL_BATCH)])


def format_table(setup: Setup, y_true: NDArray[np.int64], y_pred: NDArray[np.int64], class_names: Sequence[str]) -> str:
    """Return Table 5 of one setup as Markdown.

    Args:
        setup: How the classifier was trained and tested.
        y_true: (N,) class indices.
        y_pred: (N,) class indices.
        class_names: Name of each class.
    """
    report = classification_report(
        y_true, y_pred, labels=range(len(class_names)), target_names=class_names, output_dict=True, zero_division=0.0
    )
    lines = [
        f"Split {setup.split}, {setup.trained} trained, {setup.generated} generated images of each class: "
        f"{(y_true == y_pred).mean():.2%} of {len(y_true)} copies correct",
        "",
        "| class | precision | recall | F1 | support |",
        "|---|---|---|---|---|",
    ]
    for name in class_names:
        row = report[name]
        values = " | ".join(f"{row[key]:.2f}" for key in ("precision", "recall", "f1-score"))
        lines.append(f"| {name} | {values} | {row['support']:.0f} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
