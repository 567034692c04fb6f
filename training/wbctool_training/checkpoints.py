"""Lightning callbacks that save and stop a training so that it can be resumed exactly where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint

from wbctool.errors import SettingsInvalid
from wbctool.store.atomic_write import raise_not_writable, write_atomic
from wbctool_training.data.sampler import EpochSampler


class LastCheckpoint(Checkpoint):
    """Saves ``path`` at intervals, after every epoch, and when the time limit ends a training in mid-epoch.

    A resumed training continues with the samples of its epoch that it has not seen.

    Args:
        path: The checkpoint file.
        sampler: The training loader's sampler; None if it draws no epochs.
        batch_size: Samples per batch.
        max_hours: Time limit of this process, or None.
        save_interval_s: Time between checkpoints, in seconds.
        clock: Returns the time in seconds.

    Attributes:
        interrupted: Whether the time limit ended the training in mid-epoch.
        stop_requested: Whether the user wants to stop: KeyboardInterrupt is raised after the next checkpoint.
    """

    def __init__(
        self,
        path: Path,
        sampler: EpochSampler | None,
        batch_size: int,
        max_hours: float | None,
        save_interval_s: float,
        clock: Callable[[], float],
    ) -> None:
        self.path, self._sampler, self._batch_size = path, sampler, batch_size
        self._max_s = None if max_hours is None else 3600 * max_hours
        self._save_interval_s, self._clock = save_interval_s, clock
        self._start_s = self._saved_s = clock()
        self.interrupted = self.stop_requested = False

    def on_load_checkpoint(self, _trainer: L.Trainer, _: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._sampler is None:
            return
        loop = checkpoint["loops"]["fit_loop"]
        epoch, batches = loop["epoch_progress"]["current"]["processed"], loop["epoch_loop.batch_progress"]
        self._sampler.set_epoch(epoch)  # worker processes fetch indices before Lightning sets it
        if not batches["is_last_batch"]:
            self._sampler.resume_from(epoch, batches["current"]["ready"] * self._batch_size)

    def on_train_start(self, *_: Any) -> None:
        self._start_s = self._saved_s = self._clock()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        now_s = self._clock()
        is_up = self._max_s is not None and now_s - self._start_s >= self._max_s
        is_due = now_s - self._saved_s >= self._save_interval_s
        if is_up:
            trainer.should_stop = True
            self.interrupted = not trainer.is_last_batch
        # Not after an epoch's last batch: a training resumed from there would skip that epoch's validation.
        if self.interrupted or ((is_due or self.stop_requested) and not trainer.is_last_batch):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not self.interrupted:  # or Lightning would record the epoch as complete
            self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        """Save the checkpoint, restart the interval, and stop if the user wants to."""
        with raise_not_writable(self.path):
            trainer.save_checkpoint(self.path)
        self._saved_s = self._clock()
        if self.stop_requested:
            raise KeyboardInterrupt


class BestCheckpoint(ModelCheckpoint):
    """ModelCheckpoint that ignores interrupted epochs, and finds the best epoch again in a folder that was moved.

    Args:
        folder: Where ``best.ckpt`` goes.
        monitor: The logged value to minimize.
        last: The callback that knows whether the epoch was interrupted.
    """

    def __init__(self, folder: Path, monitor: str, last: LastCheckpoint) -> None:
        super().__init__(folder, filename="best", monitor=monitor, enable_version_counter=False)
        self._last = last

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not self._last.interrupted:
            with raise_not_writable(Path(self.dirpath or "")):
                super().on_train_epoch_end(trainer, module)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not self._last.interrupted:
            with raise_not_writable(Path(self.dirpath or "")):
                super().on_validation_end(trainer, module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        moved = {name: self._find(state_dict[name]) for name in names}
        best = {self._find(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "best_k_models": best, "dirpath": self.dirpath})

    def _find(self, path: str) -> str:
        """Return where a checkpoint is now; empty if there was none."""
        return str(Path(self.dirpath or "", Path(path).name)) if path else path


class ResumableEarlyStopping(EarlyStopping):
    """EarlyStopping that stops a resumed training at once if it had stopped; Lightning's trains one epoch more."""

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        has_stopped = self.stopped_epoch > 0 or self.wait_count >= self.patience
        trainer.should_stop = trainer.should_stop or has_stopped


def check_resumable(path: Path, resume_key: Mapping[str, str]) -> None:
    """Check that a training may be resumed.

    Weights fitted to one split must not be reported as those of another, and a schedule cannot change on the way.

    Args:
        path: What :func:`save_resume_key` wrote.
        resume_key: The same values for the training at hand.

    Raises:
        SettingsInvalid: A value differs.
    """
    saved: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    if differing := [name for name, value in resume_key.items() if saved.get(name) != value]:
        raise SettingsInvalid(
            f"--resume: the training in {path.parent} was started with a different {', '.join(differing)}; "
            "without --resume it starts afresh"
        )


def save_resume_key(path: Path, resume_key: Mapping[str, str]) -> None:
    """Record what a training is started with, and delete an earlier training's checkpoints beside it.

    Args:
        path: The JSON file, for :func:`check_resumable`.
        resume_key: Values by name.

    Raises:
        SettingsInvalid: There are checkpoints without that file, so they are of another program.
        OutputNotWritable: A checkpoint cannot be deleted, or the file not written.
    """
    checkpoints = sorted(path.parent.glob("*.ckpt"))
    if checkpoints and not path.is_file():
        raise SettingsInvalid(
            f"{checkpoints[0]} would be deleted, and is of no training of wbctool: {path.name} is missing beside it; "
            f"choose another folder, or move the file away"
        )
    for checkpoint in checkpoints:
        with raise_not_writable(checkpoint):
            checkpoint.unlink()
    write_atomic(path, (json.dumps(dict(resume_key), indent=2) + "\n").encode())
