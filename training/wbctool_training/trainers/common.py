"""What the stages share: the chosen weights of a training, and cells as its networks are shown them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray

from wbctool.imaging.resize import resize_square
from wbctool.stages.preprocess import CLASSIFIER_INPUT_PX
from wbctool_training.data.cell_index import CellRef, crop_cell

N_PARITY_CELLS = 8  # that PyTorch and ONNX Runtime are compared on


def load_weights(module: L.LightningModule, checkpoint: Path) -> None:
    """The checkpoint's weights into the task, strictly; on the CPU, to be exported."""
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state, strict=True)
    module.cpu().eval()


def preprocess_cells(cells: Sequence[CellRef], margin: float) -> NDArray[np.uint8]:
    """(N, 128, 128, 3) uint8, RGB, as a run prepares large cells."""
    return np.stack([resize_square(crop_cell(cell, margin), CLASSIFIER_INPUT_PX) for cell in cells])
