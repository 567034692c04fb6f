"""The training loop uses the precision that is fast on the machine, and resumes exactly where it stopped."""

import contextlib
import errno
import logging
import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from wbctool_training import fit
from wbctool_training.checkpoints import ResumableEarlyStopping, save_resume_key
from wbctool_training.data.loader import make_loader
from wbctool_training.fit import FitConfig, default_precision
from wbctool_training.lightning_modules.ema import EmaModule

from wbctool import hardware
from wbctool.errors import OutputNotWritable, SettingsInvalid


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("flags : fpu avx2 avx512f avx512_vnni", "32-true"),
        ("flags : fpu avx2 avx512f avx512_bf16", "bf16-mixed"),
        ("flags : fpu avx2 amx_bf16 amx_tile", "bf16-mixed"),
        ("Features : fp asimd bf16", "bf16-mixed"),
    ],
)
def test_default_precision_without_gpu_follows_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, precision: str
) -> None:
    """With emulated bfloat16, a step of the classifier took 30 s instead of 3.5 s."""
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(hardware, "_CPUINFO", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert default_precision() == precision


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16-mixed"), (False, "32-true")])
def test_default_precision_with_gpu_follows_gpu(monkeypatch: pytest.MonkeyPatch, native: bool, precision: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native and not including_emulation)
    assert default_precision() == precision


class Counting(L.LightningModule):
    """Learns nothing and records its samples. schedule: of its learning rate, if any."""

    def __init__(self, schedule: str | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.schedule, self.seen, self.rates, self.validated = schedule, list[int](), list[float](), list[int]()
        self.losses = [1.0] * 99  # of the validations, by epoch
        self.kill_after: int | None = None
        self.kill_in_validation: int | None = None  # of that epoch

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        if self.kill_after is not None and len(self.seen) >= self.kill_after:
            raise KeyboardInterrupt
        self.seen += batch.tolist()
        return self.weight.sum() * 0

    def validation_step(self, *_: Any) -> None:
        if self.current_epoch == self.kill_in_validation:
            raise KeyboardInterrupt
        self.validated.append(self.current_epoch)
        self.log("val_loss", self.losses[self.current_epoch])

    def on_train_epoch_start(self) -> None:
        self.rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 1.0)
        if self.schedule is None:
            return optimizer
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        steps = {"interval": "step", "frequency": 10}
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss", **steps}}


EPOCH = 40  # samples, in ten batches


class Signaled(Counting):
    """Presses Ctrl-C, at the end of a step or in a validation."""

    def __init__(self, after: int | None = None, in_validation: int | None = None, times: int = 1) -> None:
        super().__init__()
        self.after, self.in_validation, self.times = after, in_validation, times

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        loss = super().training_step(batch, index)
        if self.after is not None and len(self.seen) >= self.after:
            self._press()
        return loss

    def validation_step(self, *args: Any) -> None:
        super().validation_step(*args)
        if self.current_epoch == self.in_validation:
            self._press()

    def _press(self) -> None:
        for _ in range(self.times):
            signal.raise_signal(signal.SIGINT)


class HourClock:
    """A clock that advances an hour whenever it is read."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 3600.0
        return self.now_s


def train(
    folder: Path, module: Counting, epochs: int = 3, resume: bool = True, workers: int = 0, **config: Any
) -> Counting:
    """Train epochs of EPOCH samples, which are their own indices."""
    with contextlib.suppress(SystemExit, KeyboardInterrupt):
        FitConfig(folder, epochs, resume, **config).fit(
            module,
            make_loader(range(10_000), 4, epoch_samples=EPOCH, workers=workers),
            make_loader([0], 1, workers=0),
        )
    return module


@pytest.mark.parametrize("workers", [0, 1])  # a worker process takes its first draws before the epoch begins
def test_fit_killed_in_mid_epoch_resumes_without_repeating_samples(tmp_path: Path, workers: int) -> None:
    module = Counting()
    module.kill_after = EPOCH + 16
    before = train(tmp_path, module, resume=False, save_interval_s=0).seen  # a checkpoint after each batch
    after = train(tmp_path, Counting(), 2, workers=workers, save_interval_s=0).seen
    later = train(tmp_path, Counting(), 3, workers=workers, save_interval_s=0).seen
    assert before == list(range(EPOCH + 16))
    assert after == list(range(EPOCH + 16, 2 * EPOCH))
    assert later == list(range(2 * EPOCH, 3 * EPOCH))


@pytest.mark.parametrize(
    ("module", "n_samples"),
    [
        (Signaled(after=EPOCH + 8), EPOCH + 8),
        (Signaled(after=2 * EPOCH), 2 * EPOCH),  # not in the last batch: its epoch's validation would be left out
        (Signaled(in_validation=0), EPOCH),
    ],
)
def test_fit_stopped_by_the_user_is_saved_and_resumed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, module: Signaled, n_samples: int
) -> None:
    caplog.set_level(logging.INFO)
    before = signal.getsignal(signal.SIGINT)
    loaders = (make_loader(range(10_000), 4, epoch_samples=EPOCH, workers=1), make_loader([0], 1, workers=0))
    with pytest.raises(KeyboardInterrupt):
        FitConfig(tmp_path, 3, resume=False).fit(module, *loaders)
    assert module.seen == list(range(n_samples))
    assert signal.getsignal(signal.SIGINT) is before
    assert "stopped; go on with --resume" in caplog.text
    resumed = train(tmp_path, Counting())
    assert resumed.seen == list(range(n_samples, 3 * EPOCH))
    assert module.validated + resumed.validated == [0, 1, 2]


def test_fit_stopped_twice_by_the_user_stops_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        FitConfig(tmp_path, 3, resume=False).fit(
            Signaled(after=8, times=2), make_loader(range(10_000), 4, epoch_samples=EPOCH, workers=0), None
        )
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize("name", ["last.ckpt", "best.ckpt"])
def test_fit_checkpoint_on_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    save = L.Trainer.save_checkpoint

    def save_unless_full(trainer: L.Trainer, path: Path, *args: Any) -> None:
        if Path(path).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        save(trainer, path, *args)

    monkeypatch.setattr(L.Trainer, "save_checkpoint", save_unless_full)
    with pytest.raises(OutputNotWritable, match=f"{tmp_path}.* cannot be written: No space left on device"):
        save_by_fit(tmp_path)


def test_fit_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "training").touch()
    with pytest.raises(OutputNotWritable, match="training/classifier cannot be written"):
        save_by_fit(tmp_path / "training" / "classifier")


def save_by_fit(folder: Path) -> None:
    """Train an epoch and save the last checkpoint and the best one."""
    data = make_loader(range(10_000), 4, epoch_samples=EPOCH, workers=0)
    FitConfig(folder, 1, resume=True, monitor="val_loss").fit(Counting(), data, make_loader([0], 1, workers=0))


def test_fit_says_what_becomes_of_an_earlier_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    train(tmp_path, Counting(), 1, resume=True)
    assert "holds no checkpoint to resume from: the training starts afresh" in caplog.text
    assert "deleting" not in caplog.text
    train(tmp_path, Counting(), 1, resume=False)
    assert f"deleting the earlier training in {tmp_path}: with --resume it would have gone on" in caplog.text


def test_fit_curves_continue_when_resumed_and_begin_anew_otherwise(tmp_path: Path) -> None:
    n_versions = []
    for resume in (False, True, False):
        train(tmp_path, Counting(), 1, resume=resume)
        n_versions.append(len(list((tmp_path / "metrics").iterdir())))
    assert n_versions == [1, 2, 1]


class Averaging(EmaModule):
    """Its weight counts the steps, and so does its average, with a decay of 0. manual: optimized as in SrganModule."""

    def __init__(self, manual: bool) -> None:
        super().__init__()
        self.automatic_optimization = not manual
        self.init_ema(torch.nn.Linear(1, 1, bias=False), decay=0.0)
        torch.nn.init.zeros_(self.network.weight)
        self.kill_after = 5

    def training_step(self, _: torch.Tensor, index: int) -> torch.Tensor:
        if index == self.kill_after:
            raise KeyboardInterrupt
        loss = -self.network.weight.sum()
        if not self.automatic_optimization:
            self.manual_backward(loss)
            self.optimizers().step()
            self.optimizers().zero_grad()
            self.update_ema()
        return loss

    def validation_step(self, *_: Any) -> None: ...

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.network.parameters(), 1.0)


@pytest.mark.parametrize("manual", [False, True])
def test_fit_mid_epoch_checkpoint_has_weights_and_average_of_one_step(tmp_path: Path, manual: bool) -> None:
    train(tmp_path, Averaging(manual), resume=False, save_interval_s=0)  # type: ignore[arg-type]
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert state["average.n_averaged"] == 5
    assert state["network.weight"] == state["average.module.weight"] == 5


def test_fit_failing_curves_are_only_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("epoch")

    monkeypatch.setattr(fit, "draw_curves", broken)
    data = make_loader(range(10_000), 4, epoch_samples=EPOCH, workers=0)
    assert FitConfig(tmp_path, 1, resume=False).fit(Counting(), data, None) == tmp_path / "last.ckpt"
    assert "curves.png could not be drawn" in caplog.text
    assert "KeyError: 'epoch'" in caplog.text


def test_fit_killed_validation_is_repeated(tmp_path: Path) -> None:
    module = Counting()
    module.kill_in_validation = 1
    assert train(tmp_path, module, resume=False, save_interval_s=0).validated == [0]
    assert train(tmp_path, Counting(), save_interval_s=0).validated == [1, 2]


def test_fit_restarted_and_killed_deletes_older_checkpoints(tmp_path: Path) -> None:
    """Their weights may have been fitted to what is the test split now."""
    train(tmp_path, Counting(), resume=False, resume_key={"split": "fold 0"})
    killed = Counting()
    killed.kill_after = 8
    train(tmp_path, killed, resume=False, resume_key={"split": "fold 1"})
    assert train(tmp_path, Counting(), resume_key={"split": "fold 1"}).seen == list(range(3 * EPOCH))


def test_fit_checkpoints_of_another_program_are_refused_before_anything_is_deleted(tmp_path: Path) -> None:
    foreign = [tmp_path / "foreign.ckpt", tmp_path / "metrics" / "mine.csv"]
    foreign[1].parent.mkdir()
    for path in foreign:
        path.write_text("theirs")
    with pytest.raises(SettingsInvalid, match="is of no training of wbctool"):
        train(tmp_path, Counting(), resume=False)
    assert [path.read_text() for path in foreign] == ["theirs", "theirs"]


def test_fit_interrupted_epoch_is_not_the_best(tmp_path: Path) -> None:
    """Its validation comes after the checkpoint from which the training resumes."""
    module = Counting()
    module.losses = [0.5, 0.1, 0.6]
    train(tmp_path, module, resume=False, monitor="val_loss", max_hours=25, clock=HourClock())
    assert EPOCH < len(module.seen) < 2 * EPOCH
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["global_step"] == EPOCH / 4


def test_fit_resumed_in_a_moved_folder_keeps_the_best_epoch(tmp_path: Path) -> None:
    """Checkpoints hold absolute paths."""
    module = Counting()
    module.losses = [0.1, 0.6, 0.5]
    train(tmp_path / "old", module, 2, resume=False, monitor="val_loss")
    (tmp_path / "old").rename(tmp_path / "new")
    config = FitConfig(tmp_path / "new", 3, resume=True, monitor="val_loss")
    data = make_loader(range(10_000), 4, epoch_samples=EPOCH, workers=0)
    best = config.fit(module, data, make_loader([0], 1, workers=0))
    assert best == tmp_path / "new" / "best.ckpt"
    assert torch.load(best, weights_only=True)["global_step"] == EPOCH / 4


def test_fit_max_hours_stops_in_mid_epoch_and_restarts_with_resume(tmp_path: Path) -> None:
    """Lightning's own timer keeps the time used across resumptions, and counts the interrupted epoch as complete."""
    clock, seen = HourClock(), []
    for _ in range(40):
        part = train(tmp_path, Counting(), max_hours=5, clock=clock).seen
        seen += part
        assert len(part) < EPOCH
        if seen and seen[-1] == 3 * EPOCH - 1:
            break
    assert seen == list(range(3 * EPOCH))


def test_fit_plateau_schedule_is_the_same_over_resumptions(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", Counting("plateau"), 4, resume=False).rates
    parts = [train(tmp_path / "parts", Counting("plateau"), epochs).rates[-1] for epochs in (1, 2, 3, 4)]
    assert parts == whole == [1.0, 1.0, 0.5, 0.25]


def test_fit_early_stopped_training_does_not_resume(tmp_path: Path) -> None:
    def stopping() -> tuple[ResumableEarlyStopping]:
        return (ResumableEarlyStopping("val_loss", min_delta=0.1, patience=1),)

    assert len(train(tmp_path, Counting(), 9, callbacks=stopping()).seen) == 2 * EPOCH
    assert train(tmp_path, Counting(), 9, callbacks=stopping()).seen == []


def test_fit_resume_with_another_split_is_refused(tmp_path: Path) -> None:
    """The card would name groups as test groups on which the weights were trained."""
    resume_key = {"split": "fold 0", "recipe": "a"}
    train(tmp_path, Counting(), 1, resume=False, resume_key=resume_key)
    assert train(tmp_path, Counting(), 2, resume_key=resume_key).seen[0] == EPOCH
    with pytest.raises(SettingsInvalid, match="started with a different split; without --resume it starts afresh"):
        train(tmp_path, Counting(), 2, resume_key=resume_key | {"split": "fold 1"})


def test_save_resume_key_deletes_checkpoints_of_our_training_alone(tmp_path: Path) -> None:
    checkpoint = tmp_path / "mine.ckpt"
    checkpoint.touch()
    with pytest.raises(SettingsInvalid, match=r"mine\.ckpt would be deleted"):
        save_resume_key(tmp_path / "resume_key.json", {})
    assert checkpoint.exists()
    (tmp_path / "resume_key.json").write_text("{}")
    save_resume_key(tmp_path / "resume_key.json", {})
    assert not checkpoint.exists()
