"""GeoJSON against RFC 7946 and what QuPath reads."""

import itertools
import json
import uuid
from dataclasses import replace

import fakes
import pytest

from wbctool.export.geojson import CLASS_COLORS, field_geojson, slide_geojson
from wbctool.labels import CellClass
from wbctool.paths import OutputPaths
from wbctool.report.categories import ARTIFACT, reclassify
from wbctool.store.reader import read_published_slides
from wbctool.types.cells import Box, Cell, Detection

pytest.importorskip("geojson_pydantic")
from geojson_pydantic import FeatureCollection


def cell(name, index=1):
    return Cell("f.png", index, Detection(Box(3, 4, 50, 60), 0.9877, True), False, fakes.predict(name))


def features(*cells):
    text = field_geojson("ward/1", cells, tuple(CellClass))
    FeatureCollection.model_validate_json(text)
    return json.loads(text)["features"]


def test_geojson_box_is_closed_counter_clockwise_ring():
    (feature,) = features(cell("neutrophil"))
    (ring,) = feature["geometry"]["coordinates"]
    assert ring == [[3, 4], [53, 4], [53, 64], [3, 64], [3, 4]]
    assert sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in itertools.pairwise(ring)) == 2 * 50 * 60


def test_geojson_feature_has_what_qupath_reads():
    """As QuPathTypeAdapters and GsonTools of QuPath 0.4 and later read it."""
    (feature,) = features(cell("eosinophil"))
    properties = feature["properties"]
    assert properties["objectType"] == "detection"
    assert properties["classification"] == {"name": "eosinophil", "color": [213, 94, 0]}
    measurements = properties["measurements"]
    assert all(type(value) is float for value in measurements.values())
    assert (measurements["confidence"], measurements["p_eosinophil"], measurements["p_basophil"]) == pytest.approx(
        (0.93, 0.93, 0.01)
    )
    assert all(type(value) is str for value in properties["metadata"].values())
    assert properties["metadata"]["outcome"] == "counted"
    uuid.UUID(feature["id"])


def test_geojson_has_the_diameter_if_it_is_known():
    known, unknown = features(replace(cell("eosinophil"), diameter_um=14.2), cell("eosinophil", 2))
    assert known["properties"]["measurements"]["diameter_um"] == 14.2
    assert "diameter_um" not in unknown["properties"]["measurements"]


def test_geojson_review_cell_has_subclass():
    (feature,) = features(cell("review"))
    assert feature["properties"]["classification"]["names"] == ["monocyte", "review"]
    assert feature["properties"]["metadata"]["reason"] == "low_confidence"


def test_geojson_artifact_has_class_artefact():
    found = cell("neutrophil")
    (feature,) = features(replace(found, prediction=reclassify(found.prediction, ARTIFACT, tuple(CellClass))))
    assert feature["properties"]["classification"]["name"] == "artefact"


def test_geojson_id_depends_on_cell_only():
    first, again = (
        features(cell("basophil", 1), cell("basophil", 2)),
        features(cell("basophil", 1), cell("basophil", 2)),
    )
    assert first == again
    assert first[0]["id"] != first[1]["id"]


def test_geojson_field_without_cells_has_no_features():
    assert features() == []


def test_slide_geojson_yields_every_analyzed_field(run):
    fakes.draw_field(run.root / "s2" / "f3.png", [])
    (run.root / "s2" / "torn.png").write_bytes(b"")
    run()
    slide = next(slide for slide in read_published_slides(OutputPaths(run.out)) if slide.result.slide == "s2")
    n_features = {field: len(json.loads(text)["features"]) for field, text in slide_geojson(slide)}
    assert n_features == {"f1.png": 2, "f2.png": 1, "f3.png": 0}


def test_class_colors_are_distinct():
    assert set(CLASS_COLORS) == set(CellClass)
    assert len(set(CLASS_COLORS.values())) == len(CellClass)


def test_geojson_undecodable_name_is_escaped():
    text = field_geojson("s\udcff", [replace(cell("basophil"), field='a"\n.png')], tuple(CellClass))
    assert json.loads(text.encode())["features"][0]["properties"]["metadata"]["slide"] == r"s\xff"
