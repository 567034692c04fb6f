import numpy as np
import pytest

from experiments.adaptation import _make_candidates, leave_out_other_classes
from wbctool.adaptation.cells import AdaptationCell
from wbctool.labels import CellClass, UnknownKind
from wbctool.types.cells import Crop, Outcome, Prediction, Reason


def test_make_candidates_takes_models_with_fewer_classes_in_another_order() -> None:
    classes = (CellClass.PLATELET, CellClass.NEUTROPHIL)
    cell = AdaptationCell(CellClass.NEUTROPHIL, "g", "o", Crop(np.zeros((40, 40, 3), np.uint8)))
    prediction = Prediction(CellClass.NEUTROPHIL, 0.9, (0.1, 0.9), 0.0, Outcome.COUNTED, Reason.NONE)
    (candidate,) = _make_candidates([cell], [prediction], classes)
    assert candidate.probabilities == tuple(
        {CellClass.NEUTROPHIL: 0.9, CellClass.PLATELET: 0.1}.get(label, 0.0) for label in CellClass
    )


def test_leave_out_other_classes_says_how_many(capsys: pytest.CaptureFixture[str]) -> None:
    """Readers without platelets would have all of them wrong, whatever they learn."""
    crop = Crop(np.zeros((40, 40, 3), np.uint8))
    labels = (CellClass.NEUTROPHIL, CellClass.PLATELET, UnknownKind.BLAST, CellClass.PLATELET, "")
    cells = [AdaptationCell(label, "g", "o", crop) for label in labels]
    kept = leave_out_other_classes(cells, (CellClass.NEUTROPHIL, CellClass.MONOCYTE))
    assert [cell.label for cell in kept] == [CellClass.NEUTROPHIL, UnknownKind.BLAST, ""]
    assert capsys.readouterr().out.startswith("2 cells left out, of classes that the readers do not have: platelet")
