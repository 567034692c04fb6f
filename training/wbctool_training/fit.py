"""The training loop of every stage: a Lightning Trainer with checkpoints, resume, logs and a progress bar.

It uses one device, so a step sees exactly the recipe's batch and the export after a training runs once.
"""

from __future__ import annotations

import logging
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, RichProgressBar
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from wbctool.hardware import has_bf16
from wbctool.store.atomic_write import raise_not_writable
from wbctool_training.checkpoints import BestCheckpoint, LastCheckpoint, check_resumable, save_resume_key
from wbctool_training.curves import draw_curves
from wbctool_training.data.sampler import EpochSampler

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FitConfig:
    """Settings of one training.

    Attributes:
        folder: Where ``last.ckpt``, ``best.ckpt``, ``metrics/`` and ``curves.png`` go.
        max_epochs: Epochs to train.
        resume: Whether to continue from ``last.ckpt`` if it exists.
        max_hours: Stop after this time; a resumed training gets the same time again. None: no limit.
        monitor: The logged value whose minimum selects ``best.ckpt``; None uses the last checkpoint.
        callbacks: Further Lightning callbacks.
        resume_key: What must be unchanged for a training to be resumed, by name.
        save_interval_s: Time between checkpoints, in seconds.
        clock: Returns the time in seconds, for ``max_hours`` and ``save_interval_s``.
    """

    folder: Path
    max_epochs: int
    resume: bool
    max_hours: float | None = None
    monitor: str | None = None
    callbacks: tuple[Callback, ...] = field(default=())
    resume_key: Mapping[str, str] = field(default_factory=dict)
    save_interval_s: float = 300.0
    clock: Callable[[], float] = time.monotonic

    def fit(self, module: L.LightningModule, train: DataLoader[Any], validation: DataLoader[Any] | None) -> Path:
        """Train a module.

        Args:
            module: What to train.
            train: Training batches.
            validation: Validation batches, or None.

        Returns:
            The checkpoint to export: the best by ``monitor``, or the last.

        Raises:
            SettingsInvalid: The training to resume was started with another ``resume_key``.
            OutputNotWritable: A checkpoint or a log cannot be written.
            KeyboardInterrupt: The user stopped the training; the step at hand was finished and saved, unless the user
                insisted.
        """
        with raise_not_writable(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        last, resume_key_path = self.folder / "last.ckpt", self.folder / "resume_key.json"
        resuming = self.resume and last.is_file()
        if resuming:
            log.info("resuming from %s", last)
            check_resumable(resume_key_path, self.resume_key)
        else:
            if self.resume:
                log.info("%s holds no checkpoint to resume from: the training starts afresh", self.folder)
            elif last.is_file():
                log.warning("deleting the earlier training in %s: with --resume it would have gone on", self.folder)
            save_resume_key(resume_key_path, self.resume_key)
            _delete_curves(self.folder / "metrics")
        sampler = train.sampler if isinstance(train.sampler, EpochSampler) else None
        last_checkpoint = LastCheckpoint(
            last, sampler, train.batch_size or 1, self.max_hours, self.save_interval_s, self.clock
        )
        best_checkpoint = BestCheckpoint(self.folder, self.monitor, last_checkpoint) if self.monitor else None
        is_terminal = sys.stderr.isatty()
        trainer = L.Trainer(
            accelerator="auto",
            devices=1,
            precision=default_precision(),
            max_epochs=self.max_epochs,
            logger=_MetricsLogger(self.folder, name="metrics"),
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
        with _stopping_on_sigint(last_checkpoint):
            trainer.fit(module, train, validation, ckpt_path=last if resuming else None)
        self._draw_curves()
        return Path(best_checkpoint.best_model_path) if best_checkpoint and best_checkpoint.best_model_path else last

    def _draw_curves(self) -> None:
        """Draw the curves; an error is only logged."""
        try:
            draw_curves(self.folder / "metrics", self.folder / "curves.png")
        except Exception:  # the training is exported after this and must not be lost to a figure
            log.exception("%s could not be drawn", self.folder / "curves.png")


def default_precision() -> Literal["bf16-mixed", "32-true"]:
    """Choose bfloat16 if the GPU or, without one, the processor supports it natively; emulated it is far slower."""
    native = torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available() else has_bf16()
    return "bf16-mixed" if native else "32-true"


@contextmanager
def _stopping_on_sigint(last_checkpoint: LastCheckpoint) -> Iterator[None]:
    """Let the first Ctrl-C finish and save a step, and the second one stop at once, both by KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():  # only that one may handle signals
        yield
        return

    def request_stop(*_: object) -> None:
        log.info("stopping after this step; press Ctrl-C again to stop at once")
        last_checkpoint.stop_requested = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    handler = signal.signal(signal.SIGINT, request_stop)
    try:
        yield
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):  # which Lightning turns into exit code 1
            raise
        last_checkpoint.stop_requested = True
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning ignores the signal after a KeyboardInterrupt
    if last_checkpoint.stop_requested:
        log.info("stopped; go on with --resume")
        raise KeyboardInterrupt


class _MetricsLogger(CSVLogger):
    """CSVLogger whose errors name the folder."""

    def save(self) -> None:
        with raise_not_writable(Path(self.log_dir)):
            super().save()


def _delete_curves(metrics: Path) -> None:
    """Delete an earlier training's logs, which would be drawn together with this one's."""
    shutil.rmtree(metrics, ignore_errors=True)


def load_weights(module: L.LightningModule, checkpoint: Path) -> None:
    """Load a checkpoint's weights strictly, and move the module to the CPU in evaluation mode for the export.

    Args:
        module: The module that was trained.
        checkpoint: What :meth:`FitConfig.fit` returned.
    """
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state, strict=True)
    module.cpu().eval()


class _LineProgress(Callback):
    """Prints one line per epoch if there is no terminal."""

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        values = {k: float(v) for k, v in trainer.callback_metrics.items() if not k.endswith(("_step", "_epoch"))}
        line = "  ".join(f"{k} {v:.4g}" for k, v in sorted(values.items()))
        print(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  {line}", flush=True)
