"""Curves of a training that was resumed are one."""

from pathlib import Path

from training.curves import draw_curves


def test_curves_are_drawn_over_all_resumptions(tmp_path: Path) -> None:
    for version, epochs in enumerate(((0, 1), (2, 3))):
        folder = tmp_path / "metrics" / f"version_{version}"
        folder.mkdir(parents=True)
        rows = [f"{epoch},{10 * epoch},{1 / (epoch + 1)},{0.5}" for epoch in epochs]
        (folder / "metrics.csv").write_text("\n".join(["epoch,step,train_loss,val_loss", *rows]) + "\n")
    draw_curves(tmp_path / "metrics", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_logged_is_nothing_drawn(tmp_path: Path) -> None:
    draw_curves(tmp_path / "metrics", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()
