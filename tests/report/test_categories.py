"""What becomes of a prediction when a reader moves the cell."""

from dataclasses import replace

import fakes
import pytest

from wbctool.labels import CellClass, Subtype
from wbctool.report.categories import ARTIFACT, IN_REVIEW, reclassify
from wbctool.types.cells import Outcome

CLASSES = tuple(CellClass)


@pytest.mark.parametrize(
    ("category", "subtype"),
    [("neutrophil", Subtype.BAND), (IN_REVIEW, Subtype.BAND), (ARTIFACT, Subtype.BAND), ("lymphocyte", None)],
)
def test_reclassify_subtype_stays_with_its_label(category: str, subtype: Subtype | None) -> None:
    band = replace(fakes.predict("neutrophil"), subtype=Subtype.BAND)
    moved = reclassify(band, category, CLASSES)
    assert moved.subtype is subtype


def test_reclassify_accepting_the_label_of_a_cell_in_review_keeps_its_subtype() -> None:
    band = replace(fakes.predict("neutrophil"), outcome=Outcome.NEEDS_REVIEW, subtype=Subtype.BAND)
    accepted = reclassify(band, "neutrophil", CLASSES)
    assert (accepted.outcome, accepted.subtype) == (Outcome.COUNTED, Subtype.BAND)
