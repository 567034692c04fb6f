"""`python -m experiments.backbones`: every backbone with the same budget, beside the paper's results."""

import functools
from pathlib import Path

import pytest
from tiny_training import copy_shipped_models, write_short_recipe
from wbctool_training.models.backbones import Backbone
from wbctool_training.weights import load_imagenet_features

from experiments import backbones


def test_backbones_two_networks_are_compared_with_the_same_budget(
    data: Path,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The weights do not fit one of them, which then starts from random ones."""
    offline = functools.partial(load_imagenet_features, weights)  # instead of torchvision's server
    monkeypatch.setattr(backbones, "load_imagenet_features", lambda _, backbone: offline(backbone))
    two = {b: backbones.PAPER_TABLE_6[b] for b in (Backbone.RESNET50, Backbone.VGG16)}
    monkeypatch.setattr(backbones, "PAPER_TABLE_6", two)
    results: list[backbones.BackboneResult] = []
    write = backbones.write_comparison
    monkeypatch.setattr(backbones, "write_comparison", lambda rows, folder: (results.extend(rows), write(rows, folder)))
    copy_shipped_models(tmp_path, "detector")
    recipe = write_short_recipe(tmp_path / "native.toml", classifier={"super_resolved_share": 0.0})
    options = ["--recipe", str(recipe), "--imagenet-weights", str(weights), "--workers", "0"]
    backbones.main(["--data", str(data), "--out", str(tmp_path), *options])

    assert [(row.backbone, row.init, row.n_samples) for row in results] == [
        (Backbone.RESNET50, "random", 4),
        (Backbone.VGG16, "ImageNet", 4),
    ]
    for row in results:
        assert row.train.n_cells > row.test.n_cells > 0
        assert 0 <= row.test.ci95[0] <= row.test.accuracy <= row.test.ci95[1] <= 100
        assert row.test.loss > 0
    folder = tmp_path / "training" / "compare"
    written = (folder / "table6.md").read_text()
    assert capsys.readouterr().out.endswith(written + "\n")  # after the lines of progress
    assert "71.68" in written  # the paper's accuracy of ResNet50, beside ours
    assert f"{results[0].test.accuracy:.2f}" in written
    figures = {path.name for path in folder.glob("*.png")}
    assert figures == {"backbones.png", "confusion-resnet50.png", "confusion-vgg16.png"}
