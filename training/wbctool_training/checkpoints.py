"""When a training is saved, when it stops, and going on exactly there."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint

from wbctool.errors import SettingsInvalid
from wbctool_training.data.sampler import EpochSampler

_SAVE_INTERVAL_S = 300.0


class LastCheckpoint(Checkpoint):
    """Writes ``path`` every five minutes, after every epoch, and in mid-epoch where the hours of this process are up.

    A resumed training sees the draws of its epoch that it has not seen.
    interrupted: whether the hours ended it in mid-epoch.
    """

    def __init__(self, path: Path, sampler: EpochSampler | None, batch_size: int, max_hours: float | None) -> None:
        self.path, self._sampler, self._batch_size = path, sampler, batch_size
        self._max_s = None if max_hours is None else 3600 * max_hours
        self._start_s = self._saved_s = time.monotonic()
        self.interrupted = False

    def on_load_checkpoint(self, _trainer: L.Trainer, _: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._sampler is None:
            return
        loop = checkpoint["loops"]["fit_loop"]
        epoch, batches = loop["epoch_progress"]["current"]["processed"], loop["epoch_loop.batch_progress"]
        self._sampler.set_epoch(epoch)  # worker processes take their first indices before Lightning says which it is
        if not batches["is_last_batch"]:
            self._sampler.resume_from(epoch, batches["current"]["ready"] * self._batch_size)

    def on_train_start(self, *_: Any) -> None:
        self._start_s = self._saved_s = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        now_s = time.monotonic()
        is_up = self._max_s is not None and now_s - self._start_s >= self._max_s
        is_due = now_s - self._saved_s >= _SAVE_INTERVAL_S
        if is_up:
            trainer.should_stop = True
            self.interrupted = not trainer.is_last_batch
        # Not behind an epoch's last batch: of a training that is resumed there its validation would be missing.
        if self.interrupted or (is_due and not trainer.is_last_batch):
            self._save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, *_: Any) -> None:
        if not self.interrupted:  # else Lightning takes the epoch for a whole one
            self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.path)
        self._saved_s = time.monotonic()


class BestCheckpoint(ModelCheckpoint):
    """Lightning's, of whole epochs alone: what a cut one gave is not what the training goes on from."""

    def __init__(self, folder: Path, monitor: str, last: LastCheckpoint) -> None:
        super().__init__(folder, filename="best", monitor=monitor, enable_version_counter=False)
        self._last = last

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not self._last.interrupted:
            super().on_train_epoch_end(trainer, module)

    def on_validation_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if not self._last.interrupted:
            super().on_validation_end(trainer, module)


class ResumableEarlyStopping(EarlyStopping):
    """Lightning's, which after a resumption would train an epoch more before it stops again."""

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        has_stopped = self.stopped_epoch > 0 or self.wait_count >= self.patience
        trainer.should_stop = trainer.should_stop or has_stopped


def check_resumable(path: Path, resume_key: Mapping[str, str]) -> None:
    """Raises SettingsInvalid where the training was begun on another ``resume_key`` than this, which save_resume_key wrote.

    Weights that were fitted to one split would be taken for those of another, and a schedule cannot be drawn out.
    """
    saved: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    if differing := [name for name, value in resume_key.items() if saved.get(name) != value]:
        raise SettingsInvalid(
            f"--resume: the training in {path.parent} was started with a different {', '.join(differing)}; "
            "without --resume it starts afresh"
        )


def save_resume_key(path: Path, resume_key: Mapping[str, str]) -> None:
    """For check_resumable. Checkpoints of an earlier training go, or they would be taken for this one's."""
    for checkpoint in path.parent.glob("*.ckpt"):
        checkpoint.unlink()
    temporary = path.with_name(f".tmp-{path.name}")
    temporary.write_text(json.dumps(dict(resume_key), indent=2) + "\n")
    temporary.replace(path)
