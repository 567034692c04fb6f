"""The one training loop of every stage: a Lightning Trainer with checkpoints, resume, logs and a progress bar.

On one device: a recipe's batch is what a step sees, and what follows a training runs once.
"""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from training.checkpoints import BestCheckpoint, LastCheckpoint, check_resumption, note_basis
from training.curves import draw_curves
from training.data.epochs import EpochSlices
from wbctool.processor import has_bf16, usable_cores

log = logging.getLogger(__name__)

_MOST_WORKERS = 16  # of a loader


@dataclass(frozen=True, slots=True)
class Loop:
    """Where a stage keeps its checkpoints and curves, and how long it trains.

    folder: ``last.ckpt``, ``metrics/`` and ``curves.png`` lie here. monitor: the logged value whose least chooses
    ``best.ckpt``; None where the end of the schedule is what is wanted. max_hours: stop then, keep what there is;
    resuming goes on for as long again. basis: what must be as it was for a training to be resumed, by name.
    """

    folder: Path
    max_epochs: int
    resume: bool
    max_hours: float | None = None
    monitor: str | None = None
    callbacks: tuple[Callback, ...] = field(default=())
    basis: Mapping[str, str] = field(default_factory=dict)

    def fit(self, task: L.LightningModule, train: DataLoader[Any], validation: DataLoader[Any] | None) -> Path:
        """Train; returns the checkpoint to export: the best by ``monitor``, or the last.

        Raises SettingsInvalid where it is to resume what was begun on another basis.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        last, basis = self.folder / "last.ckpt", self.folder / "basis.json"
        resumes = self.resume and last.is_file()
        if resumes:
            log.info("resuming from %s", last)
            check_resumption(basis, self.basis)
        else:
            _forget_curves(self.folder / "metrics")
            note_basis(basis, self.basis)
        draws = train.sampler if isinstance(train.sampler, EpochSlices) else None
        saved = LastCheckpoint(last, draws, train.batch_size or 1, self.max_hours)
        best = BestCheckpoint(self.folder, self.monitor, saved) if self.monitor else None
        terminal = sys.stderr.isatty()
        trainer = L.Trainer(
            accelerator="auto",
            devices=1,
            precision=precision_here(),
            max_epochs=self.max_epochs,
            logger=CSVLogger(self.folder, name="metrics"),
            callbacks=[
                *([best] if best else []),
                saved,
                LearningRateMonitor("epoch"),
                *([RichProgressBar()] if terminal else [_PlainProgress()]),
                *self.callbacks,
            ],
            enable_progress_bar=terminal,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=20,
        )
        trainer.fit(task, train, validation, ckpt_path=last if resumes else None)
        self._draw()
        return Path(best.best_model_path) if best and best.best_model_path else last

    def _draw(self) -> None:
        try:
            draw_curves(self.folder / "metrics", self.folder / "curves.png")
        except Exception:  # whatever it is: a training that is yet to be exported must not be lost for a picture
            log.exception("%s could not be drawn", self.folder / "curves.png")


def precision_here() -> Literal["bf16-mixed", "32-true"]:
    """bfloat16 where the GPU or, without one, the processor computes in it; emulated it is many times slower."""
    native = torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available() else has_bf16()
    return "bf16-mixed" if native else "32-true"


def _forget_curves(metrics: Path) -> None:
    """Those of an earlier training, which would be drawn together with this one's."""
    shutil.rmtree(metrics, ignore_errors=True)


def loader(
    dataset: Any, batch: int, *, epoch_samples: int | None = None, workers: int | None = None
) -> DataLoader[Any]:
    """A DataLoader with as many workers as the machine bears. epoch_samples: new draws every epoch, that many."""
    count = min(usable_cores(), _MOST_WORKERS) if workers is None else workers
    return DataLoader(
        dataset,
        batch,
        sampler=EpochSlices(epoch_samples) if epoch_samples else None,
        num_workers=count,
        persistent_workers=count > 0,
        prefetch_factor=4 if count else None,
        pin_memory=torch.cuda.is_available(),
        drop_last=False,
        worker_init_fn=_one_thread,
        # Not forked: OpenCV and onnxruntime have threads by now, and a fork that inherits their locks hangs.
        multiprocessing_context="spawn" if count else None,
    )


def _one_thread(_: int) -> None:
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


class _PlainProgress(Callback):
    """One line an epoch where there is no terminal."""

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if not k.endswith(("_step", "_epoch"))}
        line = "  ".join(f"{k} {v:.4g}" for k, v in sorted(values.items()))
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {line}", flush=True)
