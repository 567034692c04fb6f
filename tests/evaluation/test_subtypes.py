"""The confusion of finer kinds within a class, by hand."""

from wbctool.evaluation.evaluate import Evaluation
from wbctool.evaluation.silent_errors import EvaluatedCell
from wbctool.evaluation.subtypes import summarize_subtypes
from wbctool.evaluation.text_tables import build_tables
from wbctool.labels import CellClass, Subtype
from wbctool.types.cells import Outcome, Prediction, Reason

BAND, SEGMENTED = Subtype.BAND, Subtype.SEGMENTED


def _cell(
    true: Subtype | None, predicted: Subtype | None, label: CellClass = CellClass.NEUTROPHIL, dataset: str = "pbc"
) -> EvaluatedCell:
    prediction = Prediction(label, 0.9, (0.9,), -3.0, Outcome.COUNTED, Reason.NONE, subtype=predicted)
    kind = true.label if true else CellClass.NEUTROPHIL
    assert kind is not None
    return EvaluatedCell(dataset, "a.jpg", "1", kind, true, prediction, True)


def test_summarize_subtypes_counts_by_true_and_predicted_subtype() -> None:
    cells = [
        *[_cell(BAND, BAND)] * 3,
        _cell(BAND, SEGMENTED),
        _cell(BAND, None),
        _cell(SEGMENTED, SEGMENTED),
        _cell(SEGMENTED, None, CellClass.EOSINOPHIL),  # the label is wrong
        _cell(None, BAND),  # the data do not tell it
    ]
    (report,) = summarize_subtypes(cells)
    assert (report.dataset, report.label, report.subtypes) == ("pbc", CellClass.NEUTROPHIL, ("band", "segmented"))
    assert report.confusion == ((3, 1, 1), (0, 1, 0))


def test_summarize_subtypes_models_that_tell_none_give_no_report() -> None:
    assert summarize_subtypes([_cell(BAND, None), _cell(SEGMENTED, None)]) == ()


def test_summarize_subtypes_each_data_set_and_class_has_its_own_report() -> None:
    granulocyte = _cell(Subtype.MYELOCYTE, Subtype.PROMYELOCYTE, CellClass.IMMATURE_GRANULOCYTE)
    reports = summarize_subtypes([granulocyte, _cell(BAND, BAND, dataset="lmu"), _cell(SEGMENTED, BAND)])
    assert [(r.dataset, r.label.value, r.confusion) for r in reports] == [
        ("lmu", "neutrophil", ((1, 0, 0), (0, 0, 0))),
        ("pbc", "neutrophil", ((0, 0, 0), (1, 0, 0))),
        ("pbc", "immature_granulocyte", ((0, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 0))),
    ]


def test_build_tables_has_the_confusion_of_each_report() -> None:
    subtypes = summarize_subtypes([_cell(BAND, BAND), _cell(BAND, None)])
    (table,) = build_tables(Evaluation("data", "test", "auto", (), {}, {}, (), (), {}, subtypes=subtypes))
    assert table.title.startswith("pbc, neutrophil: true subtype by row, predicted subtype by column")
    assert table.columns == ("true", "band", "segmented", "not named")
    assert table.rows == (("band", "1", "0", "1"),)
