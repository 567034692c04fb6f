import numpy as np

from experiments.adaptation import _make_candidates
from wbctool.adaptation.cells import AdaptationCell
from wbctool.labels import CellClass
from wbctool.types.cells import Crop, Outcome, Prediction, Reason


def test_make_candidates_takes_models_with_fewer_classes_in_another_order() -> None:
    classes = (CellClass.PLATELET, CellClass.NEUTROPHIL)
    cell = AdaptationCell(CellClass.NEUTROPHIL, "g", "o", Crop(np.zeros((40, 40, 3), np.uint8)))
    prediction = Prediction(CellClass.NEUTROPHIL, 0.9, (0.1, 0.9), 0.0, Outcome.COUNTED, Reason.NONE)
    (candidate,) = _make_candidates([cell], [prediction], classes)
    assert candidate.probabilities == tuple(
        {CellClass.NEUTROPHIL: 0.9, CellClass.PLATELET: 0.1}.get(label, 0.0) for label in CellClass
    )
