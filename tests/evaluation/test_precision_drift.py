"""Changed labels counted by hand, and a classifier that says another class than the shipped one."""

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from wbctool.evaluation.evaluate import evaluate
from wbctool.evaluation.precision_drift import compare_precisions
from wbctool.evaluation.text_tables import build_tables
from wbctool.inference.loading import Models
from wbctool.labels import CellClass
from wbctool.types.cells import Outcome, Prediction, Reason

pytestmark = pytest.mark.slow  # it works with the shipped models

DEMO = sorted((Path(__file__).parents[1] / "data" / "slides" / "slide-01").iterdir())
NEUTROPHIL, LYMPHOCYTE = CellClass.NEUTROPHIL, CellClass.LYMPHOCYTE


def predicted(label: CellClass, outcome: Outcome = Outcome.COUNTED) -> Prediction:
    return Prediction(label, 0.9, (0.9, 0.1), -9.0, outcome, Reason.NONE)


def test_compare_precisions_counts_changed_labels_and_outcomes_apart() -> None:
    labels = [NEUTROPHIL, NEUTROPHIL, LYMPHOCYTE, LYMPHOCYTE]
    fp32 = [predicted(NEUTROPHIL), predicted(NEUTROPHIL), predicted(LYMPHOCYTE), predicted(NEUTROPHIL)]
    int8 = [
        predicted(NEUTROPHIL, Outcome.NEEDS_REVIEW),
        predicted(LYMPHOCYTE),
        predicted(LYMPHOCYTE),
        predicted(NEUTROPHIL),
    ]
    report = compare_precisions("lab", labels, fp32, int8)
    assert (report.images, report.changed_labels, report.changed_outcomes) == (4, 1, 1)
    assert (report.accuracy_fp32, report.accuracy) == (0.75, 0.5)


def test_evaluate_with_fp32_models_compares_precisions(tmp_path: Path, shipped_models: Models) -> None:
    pytest.importorskip("sklearn")
    models = shipped_models
    card = models.classifier.card.model_copy(update={"familiarity": None})
    logits = np.where([name is CellClass.BASOPHIL for name in card.classes], 9, 0).astype(np.float32)
    always_basophil = SimpleNamespace(card=card, run=lambda rgb, *_: (np.tile(logits, (len(rgb), 1)),))
    (tmp_path / "NEUTROPHIL").mkdir()
    for path in (DEMO[0], DEMO[2]):  # neutrophils, by BCCD's own labels
        shutil.copy(path, tmp_path / "NEUTROPHIL")
    result = evaluate(
        tmp_path,
        replace(models, classifier=always_basophil),  # type: ignore[arg-type]
        [],
        None,
        sr_cells=0,
        ood_images=0,
        fp32=models,
    )
    (report,) = result.precisions
    assert report.accuracy == 0
    assert report.accuracy_fp32 == 1
    assert report.changed_labels == report.images
    (table,) = (table for table in build_tables(result) if table.title.startswith("These models against"))
    assert table.rows[0][4] == f"{report.images} (100.00%)"
