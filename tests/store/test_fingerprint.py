"""Which changes process a slide again, and which only render it again."""

import hashlib
import json
from dataclasses import asdict, replace

import fakes
import pytest

from wbctool.limits import RENDERING_LIMITS, Limits
from wbctool.report.csv_tables import COUNTS_COLUMNS
from wbctool.settings import load_settings
from wbctool.stages.absolute_counts import resolve_limits
from wbctool.store.fingerprint import compute_fingerprints, has_same_cells
from wbctool.store.slide_record import SlideRecord
from wbctool.types.results import SlideStatus
from wbctool.types.slides import Sex, SlideMetadata

FIELDS = (("a", "1"), ("b", None))
ROW = ("s", "ok", *("1",) * (len(COUNTS_COLUMNS) - 2))
OTHER_LIMITS = {
    "low_count_below": 50,
    "limited_count_below": 150,
    "high_review_share": 0.5,
    "out_of_domain_share": 0.5,
    "min_possible_blasts": 5,
    "min_immature_granulocytes": 5,
    "min_nrbc": 5,
    "correct_wbc_for_nrbc": False,
    "adult": True,
    "reference_source": "our own",
    "reference_ranges": {"neutrophil": [40, 75]},
    "absolute_source": "our own",
    "absolute_ranges": {"neutrophil": [1, 9]},
}
OTHER_METADATA = SlideMetadata("H-1", "P-1", 54.0, Sex.FEMALE, 7.2, "100x", "MGG")


def cache_key(model="ab", **settings):
    return fakes.fake_stages(load_settings({"slides": "s", "out": "c.csv", **settings}), model).models.cache_key


def make_record(metadata=None, key=None, fields=FIELDS, former=False, **settings):
    """The record of a run with these settings; ``former``: as earlier versions wrote it."""
    limits = load_settings({"slides": "s", "out": "c.csv", **settings}).limits
    fingerprints = compute_fingerprints(fields, key or cache_key(**settings), metadata)
    return SlideRecord(
        slide="s",
        status=SlideStatus.OK,
        fingerprint=fingerprints.results,
        fields=(),
        files={},
        errors=(),
        counts=dict(zip(COUNTS_COLUMNS, ROW, strict=True)),
        limits=resolve_limits(limits, metadata),
        provenance=fakes.provenance(),
        metadata=metadata,
        cells_fingerprint="" if former else fingerprints.cells,
    )


def test_fingerprint_of_results_depends_on_names_contents_order_and_cache_key():
    prints = [
        compute_fingerprints(*arguments)
        for arguments in (
            (FIELDS, cache_key(), None),
            (FIELDS[::-1], cache_key(), None),
            ((("a", "1"), ("b", "2")), cache_key(), None),
            ((("a", "1"), ("c", None)), cache_key(), None),
            (FIELDS, cache_key("cd"), None),
            (FIELDS, cache_key(max_blur_um=3), None),
            (FIELDS, cache_key(super_resolve="never"), None),
            (FIELDS, cache_key(), SlideMetadata(um_per_px=0.1)),
        )
    ]
    assert len({fingerprints.results for fingerprints in prints}) == len(prints)
    assert len({fingerprints.cells for fingerprints in prints}) == len(prints)


def test_fingerprint_of_results_is_the_one_of_earlier_versions():
    """Another one would process every slide of every laboratory again."""
    content = {"fields": FIELDS, **cache_key()}
    for metadata in (None, OTHER_METADATA):
        content |= {"metadata": asdict(metadata)} if metadata else {}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        assert make_record(metadata).fingerprint == hashlib.sha256(text.encode()).hexdigest()


def test_rendering_limits_are_all_tried():
    assert set(OTHER_LIMITS) == set(RENDERING_LIMITS) <= set(Limits.model_fields)


@pytest.mark.parametrize("former", [False, True])
@pytest.mark.parametrize("name", OTHER_LIMITS)
def test_other_limit_of_counts_leaves_the_cells(name, former):
    record, key = make_record(former=former), cache_key(**{name: OTHER_LIMITS[name]})
    assert compute_fingerprints(FIELDS, key, None).results != record.fingerprint
    assert has_same_cells(record, FIELDS, key, None)


@pytest.mark.parametrize("former", [False, True])
@pytest.mark.parametrize(
    ("earlier", "now"),
    [
        (None, OTHER_METADATA),
        (OTHER_METADATA, None),
        (OTHER_METADATA, SlideMetadata(age=4)),
        (SlideMetadata(), OTHER_METADATA),
        (SlideMetadata(accession="a", um_per_px=0.1), SlideMetadata(accession="b", um_per_px=0.1)),
    ],
)
@pytest.mark.parametrize("adult", [False, True])
def test_other_line_of_slides_csv_leaves_the_cells(earlier, now, adult, former):
    record = make_record(earlier, former=former, adult=adult)
    assert compute_fingerprints(FIELDS, cache_key(adult=adult), now).results != record.fingerprint
    assert has_same_cells(record, FIELDS, cache_key(adult=adult), now)
    assert has_same_cells(record, FIELDS, cache_key(adult=not adult, min_nrbc=3), now)


@pytest.mark.parametrize("former", [False, True])
@pytest.mark.parametrize(
    ("fields", "key", "metadata"),
    [
        (FIELDS[:1], cache_key(), None),
        ((("a", "1"), ("b", "2")), cache_key(), None),
        ((("a", "1"), ("c", None)), cache_key(), None),
        (FIELDS, cache_key("cd"), None),
        (FIELDS, cache_key(super_resolve="never"), None),
        (FIELDS, cache_key(max_megapixels=1), None),
        (FIELDS, cache_key(max_blur_um=3), None),  # compared with what results hold only rounded
        (FIELDS, cache_key(), SlideMetadata(um_per_px=0.1)),  # fields are measured by it
    ],
)
def test_what_is_measured_in_the_images_is_no_change_of_words(fields, key, metadata, former):
    assert not has_same_cells(make_record(former=former), fields, key, metadata)


@pytest.mark.parametrize("former", [False, True])
def test_other_scale_is_no_change_of_words(former):
    record = make_record(SlideMetadata(um_per_px=0.1), former=former)
    assert not has_same_cells(record, FIELDS, cache_key(), SlideMetadata(um_per_px=0.2))
    assert not has_same_cells(record, FIELDS, cache_key(), None)


def test_altered_limits_of_an_earlier_record_prove_nothing():
    record = make_record(former=True)
    assert not has_same_cells(replace(record, limits=Limits(low_count_below=7)), FIELDS, cache_key(), OTHER_METADATA)
