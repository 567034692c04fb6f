import itertools
import math

import fakes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass
from wbctool.limits import Limits
from wbctool.stages.differential import clopper_pearson_interval, count_cells

LIMITS = Limits()


def count(limits=LIMITS, known=CellClass, other_flags=(), n_read=1, **cells):
    predictions = [fakes.predict(name) for name, n in cells.items() for _ in range(n)]
    return count_cells(predictions, tuple(known), limits, other_flags, n_read)


def by_class(differential):
    return {c.label.value: c for c in differential.classes}


@pytest.mark.parametrize(
    ("n", "total", "low", "high"),
    [(9, 100, 4.2, 16.4), (0, 200, 0.0, 1.8), (0, 100, 0.0, 3.6), (50, 100, 39.8, 60.2), (100, 100, 96.4, 100.0)],
)
def test_clopper_pearson_interval_matches_rumkes_table(n, total, low, high):
    assert [round(bound, 1) for bound in clopper_pearson_interval(n, total)] == [low, high]


# The table after Rümke as textbooks print it: percent seen, bounds for 100, 200, 500 and 1,000 cells.
RUMKE = {
    0: ((0, 4), (0, 2), (0, 1), (0, 1)),
    1: ((0, 6), (0, 4), (0, 3), (0, 2)),
    5: ((1, 12), (2, 10), (3, 8), (3, 7)),
    10: ((4, 18), (6, 16), (7, 13), (8, 13)),
    20: ((12, 30), (14, 27), (16, 24), (17, 23)),
    50: ((39, 61), (42, 58), (45, 55), (46, 54)),
}


@pytest.mark.parametrize("seen", RUMKE)
def test_clopper_pearson_interval_matches_the_printed_table(seen):
    """Whole percents, rounded differently from print to print: a bound is never off by a whole percent."""
    for total, printed in zip((100, 200, 500, 1000), RUMKE[seen], strict=True):
        assert clopper_pearson_interval(seen * total // 100, total) == pytest.approx(printed, abs=1)


@given(st.integers(1, 2000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
@settings(max_examples=50, deadline=None)
def test_clopper_pearson_interval_equals_scipys_exact_interval(case):
    n, total = case
    expected = binomtest(n, total).proportion_ci(0.95, "exact")
    assert clopper_pearson_interval(n, total) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-6)


@pytest.mark.parametrize(("n", "total"), [(1, 10), (9, 100), (3, 200), (57, 120)])
def test_clopper_pearson_interval_fulfils_its_definition(n, total):
    """Clopper and Pearson 1934: at each bound, as many cells or more (or fewer) come by chance in 2.5 of 100 slides."""
    low, high = (bound / 100 for bound in clopper_pearson_interval(n, total))

    def chance(share, cells):
        return sum(math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in cells)

    assert chance(low, range(n, total + 1)) == pytest.approx(0.025)
    assert chance(high, range(n + 1)) == pytest.approx(0.025)


def test_count_cells_matches_counts_worked_by_hand():
    d = count(
        neutrophil=60, lymphocyte=30, monocyte=6, immature_granulocyte=4, review=25, odd=5, erythroblast=3, platelet=7
    )
    assert (d.cells, d.counted, d.review, d.not_wbc) == (140, 100, 30, 10)
    assert [c.n for c in d.classes] == [60, 30, 6, 0, 0, 4]
    assert [c.percent for c in d.classes] == [60, 30, 6, 0, 0, 4]
    assert (d.erythroblasts, d.nrbc_per_100_wbc) == (3, 3.0)
    neutrophil = by_class(d)["neutrophil"]
    assert neutrophil.review_low == pytest.approx(100 * 60 / 130)  # none of the 30 in review is one
    assert neutrophil.review_high == pytest.approx(100 * 90 / 130)  # all of them are
    # 30 of 130 are more than a tenth; 5 of 140 are not more than a twentieth
    assert d.flags == ("limited_count", "high_review_share", "immature_granulocytes", "nrbc")


@given(st.lists(st.sampled_from(("neutrophil", "lymphocyte", "eosinophil")), max_size=8), st.integers(0, 4))
@settings(max_examples=40, deadline=None)
def test_review_bounds_equal_those_of_every_possible_reading(counted, review):
    """Every way of reading the review cells as one of the six classes: the least and the greatest percent of each."""
    d = count_cells([fakes.predict(n) for n in [*counted, *[fakes.REVIEW] * review]], tuple(CellClass), LIMITS)
    seen = [CellClass(n) for n in counted]
    readings = [[*seen, *reading] for reading in itertools.product(DIFFERENTIAL_CLASSES, repeat=review)]
    for c in d.classes:
        percents = [100 * cells.count(c.label) / len(cells) for cells in readings if cells]
        if not percents:
            assert (c.review_low, c.review_high) == (None, None)
        else:
            assert (c.review_low, c.review_high) == pytest.approx((min(percents), max(percents)))


def test_count_cells_leaves_review_cells_out_of_their_class():
    assert by_class(count(review=3, neutrophil=1))["monocyte"].n == 0


@pytest.mark.parametrize(
    ("counted", "flags"),
    [
        (0, ("no_wbc", "low_count")),
        (99, ("low_count",)),
        (100, ("limited_count",)),
        (199, ("limited_count",)),
        (200, ()),
    ],
)
def test_count_cells_raises_count_flags(counted, flags):
    assert count(neutrophil=counted).flags == flags


@pytest.mark.parametrize(("review", "flagged"), [(20, False), (21, True)])
def test_high_review_share_is_raised_above_a_tenth(review, flagged):
    d = count(neutrophil=200 - review, review=review)
    assert ("high_review_share" in d.flags) is flagged


@pytest.mark.parametrize(("odd", "flagged"), [(10, False), (11, True)])
def test_out_of_domain_is_raised_above_a_twentieth_of_all_cells(odd, flagged):
    d = count(neutrophil=180 - odd, platelet=20, odd=odd)
    assert ("out_of_domain" in d.flags) is flagged


def test_count_cells_with_nothing_counted_has_no_percents():
    d = count(review=5, platelet=1)
    assert d.nrbc_per_100_wbc is None
    assert all(c.percent is c.ci95_low is c.ci95_high is None for c in d.classes)
    assert all((c.review_low, c.review_high) == (0, 100) for c in d.classes)
    assert "no_wbc" not in d.flags  # what is in review may well be some


def test_count_cells_with_no_field_read_does_not_raise_no_wbc():
    assert count(n_read=0, other_flags={"failed_fields"}).flags == ("low_count", "failed_fields")


def test_count_cells_class_unknown_to_the_model_is_not_assessed():
    four = (CellClass.NEUTROPHIL, CellClass.LYMPHOCYTE, CellClass.MONOCYTE, CellClass.EOSINOPHIL)
    d = count(known=four, neutrophil=10)
    assert [c.assessed for c in d.classes] == [True] * 4 + [False] * 2
    assert by_class(d)["basophil"].percent is None
    assert by_class(d)["eosinophil"].percent == 0
    assert not d.nrbc_assessed


def test_range_flags_are_raised_for_adults_with_100_cells_only():
    adults = Limits(adult=True)
    d = by_class(count(adults, neutrophil=80, lymphocyte=10, monocyte=10))
    assert [d[c.value].flag for c in DIFFERENTIAL_CLASSES] == ["high", "low", "high", "", "", ""]
    assert (d["neutrophil"].reference_low, d["neutrophil"].reference_high) == (45, 79)
    assert {c.flag for c in count(adults, neutrophil=99).classes} == {""}
    unknown_age = count(neutrophil=100).classes
    assert {(c.flag, c.reference_low) for c in unknown_age} == {("", None)}


@given(st.lists(st.sampled_from(fakes.NAMES), max_size=300))
@settings(max_examples=50, deadline=None)
def test_count_cells_properties_hold(names):
    d = count_cells([fakes.predict(name) for name in names], tuple(CellClass), LIMITS)
    assert d.cells == len(names) == d.counted + d.review + d.not_wbc
    assert sum(c.n for c in d.classes) == d.counted
    if d.counted:
        assert sum(c.percent for c in d.classes) == pytest.approx(100)
        assert all(0 <= c.ci95_low <= c.percent <= c.ci95_high <= 100 for c in d.classes)
        assert all(c.review_low <= c.percent <= c.review_high for c in d.classes)
