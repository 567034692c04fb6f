"""The whole way of a laboratory: unfamiliar slides, cells named in the browser, models of its own, familiar slides."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_laboratory import COLORS, ORDER, draw, write_models_of_elsewhere
from typer.testing import CliRunner

from wbctool.adaptation.labels_file import read_labels
from wbctool.cli import app
from wbctool.paths import OutputPaths
from wbctool.store.counts_table import read_outcomes

Keys = pytest.importorskip("selenium.webdriver.common.keys", reason="selenium is not installed").Keys
pytestmark = pytest.mark.slow
SLIDES, KEYS = 6, {"monocyte": "3", "basophil": "5"}
N_CELLS = SLIDES * len(ORDER)
_GLASS_GREEN = 120  # cells are darker


def wbctool(*arguments: object) -> str:
    """Run a command that must succeed; return what it printed."""
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


def flags(out: Path) -> list[str]:
    outcomes = read_outcomes(OutputPaths(out))
    assert outcomes is not None
    return [outcome.counts["flags"] for outcome in outcomes]


def look(window: Any) -> str:
    """Return what the laboratory calls the cell that the page shows, by its color."""
    source = str(window.js("document.getElementById('cell-image').src"))
    rgb = np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB"), float)
    color = rgb[rgb[..., 1] < _GLASS_GREEN].mean(axis=0)
    return min(COLORS, key=lambda name: float(np.abs(color - COLORS[name]).sum()))


def test_from_unfamiliar_slides_to_models_of_the_laboratorys_own(window, tmp_path):
    models, out, lab = write_models_of_elsewhere(tmp_path / "models"), tmp_path / "counts.csv", tmp_path / "lab-models"
    for slide in range(SLIDES):
        draw(tmp_path / "slides" / f"s{slide}" / "f.png", ORDER, seed=slide, contrast=35)
    wbctool("run", tmp_path / "slides", "--out", out, "--models", models, "--quiet")
    assert all("unfamiliar" in of_slide for of_slide in flags(out))
    window.open(out.with_suffix("") / "s0" / "report.html")
    assert "unfamiliar" in window.text("main").lower()

    wbctool("label", out, "--cells", N_CELLS, "--to", tmp_path / "label.html")
    window.open(tmp_path / "label.html")
    window.press("A", "B", Keys.ENTER)
    for _ in range(N_CELLS):
        window.press(KEYS[look(window)])
    assert window.text("#progress-text").startswith(f"{N_CELLS} of {N_CELLS} named")
    window.driver.switch_to.active_element.send_keys(Keys.CONTROL, "s", Keys.NULL)
    labels = window.downloaded("labels-counts-*.json")
    assert len(read_labels(labels).cells) == N_CELLS

    wbctool("adapt", out, labels, "--models", models, "--out", lab)
    content = json.loads((lab / "adaptation.json").read_text())
    assert content["comparison"]["before"]["accuracy"]["percent"] < 60
    assert content["comparison"]["after"]["accuracy"]["percent"] > 80
    window.open(lab / "adaptation.html")
    assert "are now" in window.text("main")

    wbctool("run", tmp_path / "slides", "--out", out, "--models", lab, "--quiet")
    assert not any("unfamiliar" in of_slide for of_slide in flags(out))
    window.open(out.with_suffix("") / "s0" / "report.html")
    assert "unfamiliar" not in window.text("main").lower()
    assert "classifier, adapted to lab-models" in window.text("footer")
