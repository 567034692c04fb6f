import numpy as np

from experiments.adapted_familiarity import format_familiarity
from wbctool.adaptation.cells import AdaptationCell
from wbctool.adaptation.readers import Reader
from wbctool.inference.classifier_head import LastLayer
from wbctool.inference.familiarity_rule import FamiliarityRule, FeatureSpace
from wbctool.inference.model_card import ClassifierCard, default_models_dir, load_fp32_card
from wbctool.inference.training_features import TrainingFeatures
from wbctool.labels import CellClass
from wbctool.types.cells import Crop

CLASSES = (CellClass.NEUTROPHIL, CellClass.LYMPHOCYTE)
AXES = 10 * np.eye(2, 8, dtype=np.float32)


def make_laboratory(name: str, n_cells: int, offset: float) -> tuple[list[AdaptationCell], list[Reader]]:
    """Cells beside those of the training, by an offset in the dimensions that do not tell the classes."""
    rng = np.random.default_rng(len(name))
    y_true = np.arange(n_cells) % 2
    features = AXES[y_true] + rng.normal(0, 0.5, (n_cells, 8)).astype(np.float32)
    features[:, 2:] += offset
    rule = FamiliarityRule(
        space=FeatureSpace.from_arrays(np.eye(8, dtype=np.float32), AXES),
        max_mean_distance=10,
        min_cells=20,
        min_confidence=0.9,
    )
    card = load_fp32_card(default_models_dir(), ClassifierCard).model_copy(
        update={"classes": CLASSES, "familiarity": rule}
    )
    training = TrainingFeatures(np.repeat(AXES, 20, axis=0), np.repeat(np.arange(2), 20))
    reader = Reader(card, LastLayer(AXES, np.zeros(2, np.float32)), features, training)
    crop = Crop(np.zeros((40, 40, 3), np.uint8))
    return [AdaptationCell(CLASSES[y], f"{name}/{i}", str(i), crop) for i, y in enumerate(y_true)], [reader]


def test_format_familiarity_own_cells_become_familiar_and_those_elsewhere_do_not() -> None:
    laboratories = {"own": make_laboratory("own", 120, 3.0), "elsewhere": make_laboratory("elsewhere", 30, -3.0)}
    own, elsewhere = format_familiarity(laboratories).splitlines()[2:]
    assert elsewhere == "| own | 50 | elsewhere | 0% | 0%, -, - |"
    *_, before, after, _ = own.split("|")
    assert before.strip() == "0%"
    of_20, of_50, of_100 = after.split(",")
    assert float(of_20.rstrip("%")) >= 95  # the limit is set so that one slide of fifty exceeds it
    assert (of_50.strip(), of_100.strip()) == ("100%", "-")
