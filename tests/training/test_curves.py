"""Training curves, also over resumptions."""

from pathlib import Path

import pytest
from matplotlib.axes import Axes
from wbctool_training.curves import draw_curves, read_curves


def test_draw_curves_resumed_training_joins_all_versions(tmp_path: Path) -> None:
    for version, epochs in enumerate(((0, 1), (2, 3))):
        folder = tmp_path / "metrics" / f"version_{version}"
        folder.mkdir(parents=True)
        rows = [f"{epoch},{10 * epoch},{1 / (epoch + 1)},{0.5}" for epoch in epochs]
        (folder / "metrics.csv").write_text("\n".join(["epoch,step,train_loss,val_loss", *rows]) + "\n")
    assert read_curves(tmp_path / "metrics")["epoch"].tolist() == [0, 1, 2, 3]
    draw_curves(tmp_path / "metrics", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_draw_curves_interrupted_epoch_is_drawn_as_it_was_repeated(tmp_path: Path, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(Axes, "plot", lambda _, x, y, **__: drawn.append(list(y)))
    for version, rows in enumerate((["0,9,0.9", "1,19,0.8", "2,21,0.1"], ["2,29,0.7", "3,39,0.6"])):
        folder = tmp_path / "metrics" / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("\n".join(["epoch,step,val_loss", *rows]) + "\n")
    draw_curves(tmp_path / "metrics", tmp_path / "curves.png")
    assert drawn == [[0.9, 0.8, 0.7, 0.6]]


@pytest.mark.parametrize(("epochs", "against"), [(1, "step"), (3, "epoch")])
def test_draw_curves_few_epochs_uses_steps(tmp_path: Path, monkeypatch, epochs: int, against: str) -> None:
    drawn = []

    def plot(axes, x, y, **_):
        drawn.append((axes, list(x), list(y)))

    monkeypatch.setattr(Axes, "plot", plot)
    folder = tmp_path / "metrics" / "version_0"
    folder.mkdir(parents=True)
    rows = [f"{epoch},{10 * epoch + step},{step / 10},," for epoch in range(epochs) for step in (0, 5)]
    rows += [f"{epoch},{10 * epoch + 9},,0.5,0.7" for epoch in range(epochs)]
    (folder / "metrics.csv").write_text(
        "\n".join(["epoch,step,train_loss_step,train_loss_epoch,val_loss", *rows]) + "\n"
    )
    draw_curves(tmp_path / "metrics", tmp_path / "curves.png")
    assert {axes.get_xlabel() for axes, *_ in drawn} == {against}
    by_epoch = [1, 2, 3]
    assert [(x, y) for _, x, y in drawn] == (
        [([1, 6], [0.0, 0.5]), ([10], [0.7])] if against == "step" else [(by_epoch, [0.5] * 3), (by_epoch, [0.7] * 3)]
    )


def test_draw_curves_learning_rate_only_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "metrics" / "version_0").mkdir(parents=True)
    (tmp_path / "metrics" / "version_0" / "metrics.csv").write_text("lr-Adam,step\n0.1,0\n")
    draw_curves(tmp_path / "metrics", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_draw_curves_without_logs_writes_nothing(tmp_path: Path) -> None:
    draw_curves(tmp_path / "metrics", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
