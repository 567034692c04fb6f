import fakes
import pytest

from wbctool.labels import CellClass
from wbctool.limits import Limits
from wbctool.stages.absolute_counts import add_absolute_counts, resolve_limits
from wbctool.stages.differential import count_cells
from wbctool.types.slides import SlideMetadata


def absolute(wbc, limits=Limits(), known=tuple(CellClass), **cells):  # noqa: B008
    predictions = [fakes.predict(name) for name, n in cells.items() for _ in range(n)]
    return add_absolute_counts(count_cells(predictions, known, limits), wbc, limits)


def values(differential):
    return {c.label.value: c.absolute and round(c.absolute.value, 6) for c in differential.classes}


def test_add_absolute_counts_matches_counts_worked_by_hand():
    # 25 NRBC per 100 white cells: 10 × 100 / 125 = 8; 9 % of 8 = 0.72, Rümke's 4.2 to 16.4 % of 8 = 0.33 to 1.31
    d = absolute(10.0, Limits(adult=True), neutrophil=70, lymphocyte=21, monocyte=9, erythroblast=25)
    assert (d.analyzer.analyser_wbc, d.analyzer.wbc, d.analyzer.corrected_for_nrbc) == (10, 8, True)
    assert values(d) == {
        "neutrophil": 5.6,
        "lymphocyte": 1.68,
        "monocyte": 0.72,
        "eosinophil": 0.0,
        "basophil": 0.0,
        "immature_granulocyte": 0.0,
    }
    monocyte = d.classes[2].absolute
    assert (round(monocyte.ci95_low, 2), round(monocyte.ci95_high, 2)) == (0.34, 1.31)
    assert (monocyte.reference_low, monocyte.reference_high, monocyte.flag) == (0.2, 1.0, "")


def test_absolute_flags_follow_the_absolute_ranges():
    d = absolute(1.0, Limits(adult=True), neutrophil=60, lymphocyte=40)
    assert [c.absolute.flag for c in d.classes[:3]] == ["low", "low", "low"]
    assert [c.flag for c in d.classes[:3]] == ["", "", ""]  # the percents are normal
    assert d.analyzer.reference_source == "UK, typical, adults"


def test_add_absolute_counts_without_analyzer_changes_nothing():
    d = absolute(None, neutrophil=100)
    assert d.analyzer is None
    assert set(values(d).values()) == {None}


def test_add_absolute_counts_with_unknown_age_has_no_ranges():
    d = absolute(1.0, neutrophil=100)
    assert {(c.absolute.reference_low, c.absolute.flag) for c in d.classes} == {(None, "")}
    assert d.analyzer.reference_source == ""


@pytest.mark.parametrize("how", ["setting", "model"])
def test_add_absolute_counts_corrects_only_if_needed_and_possible(how):
    limits = Limits(correct_wbc_for_nrbc=how != "setting")
    known = tuple(CellClass) if how == "setting" else tuple(CellClass)[:4]
    d = absolute(10.0, limits, known, neutrophil=75, lymphocyte=25, erythroblast=25)
    assert (d.analyzer.wbc, d.analyzer.corrected_for_nrbc) == (10, False)
    assert values(d)["neutrophil"] == 7.5
    assert values(d)["basophil"] == (None if how == "model" else 0)


def test_add_absolute_counts_with_nothing_counted_gives_none():
    assert set(values(absolute(5.0, review=3)).values()) == {None}


@pytest.mark.parametrize(
    ("setting", "age", "adult"),
    [(False, None, False), (True, None, True), (False, 18, True), (True, 17.9, False), (False, 0, False)],
)
def test_resolve_limits_takes_adult_from_age(setting, age, adult):
    assert resolve_limits(Limits(adult=setting), SlideMetadata(age=age)).adult is adult
    assert resolve_limits(Limits(adult=setting), None).adult is setting
