"""Loaders of training data. Their worker processes import this module, so it imports nothing of Lightning."""

from __future__ import annotations

import signal
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from wbctool.hardware import usable_cores
from wbctool_training.data.sampler import EpochSampler

_MAX_WORKERS = 16


def make_loader(
    dataset: Any, batch_size: int, *, workers: int | None, epoch_samples: int | None = None
) -> DataLoader[Any]:
    """Make a DataLoader.

    Args:
        dataset: A torch Dataset, or any sequence.
        batch_size: Items per batch.
        workers: Worker processes; None uses every usable core, at most 16.
        epoch_samples: Draw this many new items every epoch (EpochSampler); None visits every item once.
    """
    n_workers = min(usable_cores(), _MAX_WORKERS) if workers is None else workers
    return DataLoader(
        dataset,
        batch_size,
        sampler=EpochSampler(epoch_samples) if epoch_samples else None,
        num_workers=n_workers,
        persistent_workers=n_workers > 0,
        prefetch_factor=4 if n_workers else None,
        pin_memory=torch.cuda.is_available(),
        drop_last=False,
        worker_init_fn=_start_worker,
        # Not "fork": OpenCV and onnxruntime have started threads, and a fork that inherits their locks can hang.
        multiprocessing_context="spawn" if n_workers else None,
    )


def _start_worker(_: int) -> None:
    """Limit a worker process to one thread, as there is one for each core, and leave Ctrl-C to the training."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
