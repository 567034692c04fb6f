"""`wbctool adapt --deep`: a VGG's last block and dense layers, fine-tuned to a laboratory's cells.

The outputs of the blocks before it are computed once and kept, so a training step costs a third of one of the whole
network. Training cells cannot be replayed: the features that travel with the models are those of the shipped last
block. Against forgetting, the tuning is short and at a low learning rate, it starts from a last layer that was fitted
with the replayed features, and the tuned weights are averaged with those that it started from.

References:
    Kumar et al. 2022, Fine-tuning can distort pretrained features and underperform out-of-distribution (the last layer
    first), arXiv 2202.10054.
    Wortsman et al. 2022, Robust fine-tuning of zero-shot models (the average of the weights), arXiv 2109.01903.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from wbctool.inference.classifier_head import LastLayer
from wbctool.inference.model_card import CellClassifierCard
from wbctool.types.progress import Progress
from wbctool_training.export import N_PARITY_CELLS, ClassifierGraph, export_classifier, round_weights_fp16
from wbctool_training.init_from import load_network
from wbctool_training.models.backbones import count_frozen_layers
from wbctool_training.models.classifier import CellClassifier, NormalizedClassifier

EPOCHS = 6
MAX_STEPS = 100  # of one training, so that its time is bounded
MAX_VIEWS = 8  # the symmetries of a square
_MAX_MAPS = 2000  # of all cells together, of 64 kB each
_BATCH = 16
_FROZEN_BLOCKS = 4
_FEATURES_LR, _HEAD_LR = 1e-5, 1e-4
_TUNED_SHARE = 0.5  # of the tuned weights in the average
_SEED = 20240163


class LastBlock(nn.Module):
    """What is tuned of a classifier: its last block, its dense layers and its output.

    Args:
        classifier: The whole classifier, of which copies are taken.
        layer: The last layer to start from.
    """

    def __init__(self, classifier: CellClassifier, layer: LastLayer) -> None:
        super().__init__()
        first = count_frozen_layers(classifier.backbone, _FROZEN_BLOCKS)
        self.features = copy.deepcopy(classifier.features[first:])
        self.dense = copy.deepcopy(classifier.dense)
        self.output = nn.Linear(layer.weight.shape[1], layer.weight.shape[0])
        with torch.no_grad():
            self.output.weight.copy_(torch.from_numpy(layer.weight))
            self.output.bias.copy_(torch.from_numpy(layer.bias))

    def forward_features(self, maps: Tensor) -> Tensor:
        """Map outputs (N, C, h, w) of the frozen blocks to penultimate features (N, D)."""
        features: Tensor = self.dense(self.features(maps).mean(dim=(2, 3)))
        return features

    def forward(self, maps: Tensor) -> Tensor:
        """Map outputs (N, C, h, w) of the frozen blocks to logits."""
        logits: Tensor = self.output(self.forward_features(maps))
        return logits


@dataclass(frozen=True)
class TunedClassifier:
    """A classifier with a tuned last block.

    Attributes:
        layer: Its last layer.
        features: (N, D) float32, of all cells of the laboratory.
    """

    layer: LastLayer
    features: NDArray[np.float32]
    _whole: NormalizedClassifier
    _tuned: LastBlock
    _example: NDArray[np.uint8]
    _n_classes: int

    def export(self) -> bytes:
        """Return the content of its ONNX file.

        Raises:
            ModelMismatch: The exported graph differs from the network.
        """
        network = copy.deepcopy(self._whole)
        classifier = network.network
        first = count_frozen_layers(classifier.backbone, _FROZEN_BLOCKS)
        for target, source in (
            (classifier.features[first:], self._tuned.features),
            (classifier.dense, self._tuned.dense),
            (classifier.output, self._tuned.output),
        ):
            target.load_state_dict(source.state_dict(), strict=True)
        graph = ClassifierGraph(network.to(memory_format=torch.contiguous_format), self._n_classes)
        return export_classifier(graph, self._example)[0]


class LastBlockTuner:
    """Fine-tunes the last block of a VGG to some of a laboratory's cells, as often as it is called.

    Args:
        content: The classifier's ONNX file.
        card: Its card.
        rgb: (N, 128, 128, 3) uint8 RGB, the laboratory's cells, two at least.
        progress: Wraps the batches of the frozen blocks.

    Raises:
        ModelMismatch: The classifier is no VGG; the exports of other networks cannot be read back.
    """

    def __init__(self, content: bytes, card: CellClassifierCard, rgb: NDArray[np.uint8], progress: Progress) -> None:
        self._network = load_network(content, card).to(memory_format=torch.channels_last)
        self._example, self._n_classes = rgb[:N_PARITY_CELLS], len(card.classes)
        n_views = max(1, min(MAX_VIEWS, _MAX_MAPS // len(rgb)))
        self._maps = self._compute_maps(rgb, n_views, card.name, progress)

    def __call__(self, layer: LastLayer, y_true: NDArray[np.int64], weights: NDArray[np.float64]) -> TunedClassifier:
        """Fine-tune to some cells.

        Args:
            layer: The last layer to start from.
            y_true: (N,) the index of each cell's output; -1 for a cell to learn nothing from.
            weights: (N,) what each cell counts.

        Returns:
            The tuned classifier, with features of all cells. Its large weights are rounded to half precision, as the
            export stores them.
        """
        tuned = LastBlock(self._network.network, layer).to(memory_format=torch.channels_last)
        start = [parameter.detach().clone() for parameter in tuned.parameters()]
        self._train(tuned, torch.from_numpy(y_true), torch.from_numpy(weights).float())
        with torch.no_grad():
            for parameter, original in zip(tuned.parameters(), start, strict=True):
                parameter.copy_(torch.lerp(original, parameter, _TUNED_SHARE))
        round_weights_fp16(tuned)
        with torch.inference_mode():
            features = [tuned.forward_features(maps.float()) for maps in self._maps[0].split(_BATCH)]
            tuned_layer = LastLayer(tuned.output.weight.numpy().copy(), tuned.output.bias.numpy().copy())
        return TunedClassifier(
            tuned_layer, torch.cat(features).numpy(), self._network, tuned, self._example, self._n_classes
        )

    def _compute_maps(self, rgb: NDArray[np.uint8], n_views: int, name: str, progress: Progress) -> Tensor:
        """Return the outputs of the frozen blocks, (views, N, C, h, w) float16, the first view without symmetry."""
        classifier = self._network.network
        frozen = classifier.features[: count_frozen_layers(classifier.backbone, _FROZEN_BLOCKS)]
        batches = [
            (view, rgb[start : start + _BATCH]) for view in range(n_views) for start in range(0, len(rgb), _BATCH)
        ]
        maps = []
        for view, batch in progress(batches, len(batches), f"{name}: frozen blocks"):
            turned = np.rot90(batch if view < 4 else batch[:, :, ::-1], view % 4, axes=(1, 2))
            pixels = torch.from_numpy(turned.copy()).permute(0, 3, 1, 2)
            with torch.inference_mode():
                maps.append(frozen(self._network.normalize(pixels)).half())
        all_maps = torch.cat(maps)
        return all_maps.reshape(n_views, len(rgb), *all_maps.shape[1:])

    def _train(self, tuned: LastBlock, y_true: Tensor, weights: Tensor) -> None:
        """Train in place, each cell in a random view."""
        taught = torch.nonzero(y_true >= 0).flatten()
        if not len(taught):
            return
        weights = weights / weights[taught].mean()
        rng = np.random.default_rng(_SEED)
        n_steps = min(MAX_STEPS, math.ceil(EPOCHS * len(taught) / _BATCH))
        groups = [
            {"params": tuned.features.parameters(), "lr": _FEATURES_LR},
            {"params": [*tuned.dense.parameters(), *tuned.output.parameters()], "lr": _HEAD_LR},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        order = np.concatenate([rng.permutation(taught.numpy()) for _ in range(EPOCHS)])[: n_steps * _BATCH]
        for cells in torch.from_numpy(order).split(_BATCH):
            views = torch.from_numpy(rng.integers(len(self._maps), size=len(cells)))
            maps = self._maps[views, cells].float().contiguous(memory_format=torch.channels_last)
            losses = cross_entropy(tuned(maps), y_true[cells], reduction="none")
            loss = (losses * weights[cells]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
