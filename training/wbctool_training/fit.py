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

from wbctool.hardware import has_bf16, usable_cores
from wbctool_training.checkpoints import BestCheckpoint, LastCheckpoint, check_resumable, save_resume_key
from wbctool_training.curves import draw_curves
from wbctool_training.data.sampler import EpochSampler

log = logging.getLogger(__name__)

_MAX_WORKERS = 16  # of a loader


@dataclass(frozen=True, slots=True)
class FitConfig:
    """Where a stage keeps its checkpoints and curves, and how long it trains.

    folder: ``last.ckpt``, ``metrics/`` and ``curves.png`` lie here. monitor: the logged value whose least chooses
    ``best.ckpt``; None where the end of the schedule is what is wanted. max_hours: stop then, keep what there is;
    resuming goes on for as long again. resume_key: what must be as it was for a training to be resumed, by name.
    """

    folder: Path
    max_epochs: int
    resume: bool
    max_hours: float | None = None
    monitor: str | None = None
    callbacks: tuple[Callback, ...] = field(default=())
    resume_key: Mapping[str, str] = field(default_factory=dict)

    def fit(self, module: L.LightningModule, train: DataLoader[Any], validation: DataLoader[Any] | None) -> Path:
        """Train; returns the checkpoint to export: the best by ``monitor``, or the last.

        Raises SettingsInvalid where it is to resume what was begun on another basis.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        last, resume_key_path = self.folder / "last.ckpt", self.folder / "basis.json"
        resuming = self.resume and last.is_file()
        if resuming:
            log.info("resuming from %s", last)
            check_resumable(resume_key_path, self.resume_key)
        else:
            _delete_curves(self.folder / "metrics")
            save_resume_key(resume_key_path, self.resume_key)
        sampler = train.sampler if isinstance(train.sampler, EpochSampler) else None
        last_checkpoint = LastCheckpoint(last, sampler, train.batch_size or 1, self.max_hours)
        best_checkpoint = BestCheckpoint(self.folder, self.monitor, last_checkpoint) if self.monitor else None
        is_terminal = sys.stderr.isatty()
        trainer = L.Trainer(
            accelerator="auto",
            devices=1,
            precision=default_precision(),
            max_epochs=self.max_epochs,
            logger=CSVLogger(self.folder, name="metrics"),
            callbacks=[
                *([best_checkpoint] if best_checkpoint else []),
                last_checkpoint,
                LearningRateMonitor("epoch"),
                *([RichProgressBar()] if is_terminal else [_LineProgress()]),
                *self.callbacks,
            ],
            enable_progress_bar=is_terminal,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=20,
        )
        trainer.fit(module, train, validation, ckpt_path=last if resuming else None)
        self._draw_curves()
        return Path(best_checkpoint.best_model_path) if best_checkpoint and best_checkpoint.best_model_path else last

    def _draw_curves(self) -> None:
        try:
            draw_curves(self.folder / "metrics", self.folder / "curves.png")
        except Exception:  # whatever it is: a training that is yet to be exported must not be lost for a picture
            log.exception("%s could not be drawn", self.folder / "curves.png")


def default_precision() -> Literal["bf16-mixed", "32-true"]:
    """bfloat16 where the GPU or, without one, the processor computes in it; emulated it is many times slower."""
    native = torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available() else has_bf16()
    return "bf16-mixed" if native else "32-true"


def _delete_curves(metrics: Path) -> None:
    """Those of an earlier training, which would be drawn together with this one's."""
    shutil.rmtree(metrics, ignore_errors=True)


def make_loader(
    dataset: Any, batch_size: int, *, epoch_samples: int | None = None, workers: int | None = None
) -> DataLoader[Any]:
    """A DataLoader with as many workers as the machine bears. epoch_samples: new draws every epoch, that many."""
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
        worker_init_fn=_use_one_thread,
        # Not forked: OpenCV and onnxruntime have threads by now, and a fork that inherits their locks hangs.
        multiprocessing_context="spawn" if n_workers else None,
    )


def _use_one_thread(_: int) -> None:
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


class _LineProgress(Callback):
    """One line an epoch where there is no terminal."""

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if not k.endswith(("_step", "_epoch"))}
        line = "  ".join(f"{k} {v:.4g}" for k, v in sorted(values.items()))
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {line}", flush=True)
