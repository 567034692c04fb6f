"""GeoJSON against RFC 7946 and against what QuPath's reader asks for."""

import itertools
import json
import uuid
from dataclasses import replace

import fakes
import pytest

from wbctool.export.geojson import CLASS_COLORS, field_geojson
from wbctool.labels import CellClass
from wbctool.report.disposition import ARTIFACT, reclassify
from wbctool.types.cells import Box, Cell, Detection

pytest.importorskip("geojson_pydantic")
from geojson_pydantic import FeatureCollection


def cell(name, index=1):
    return Cell("f.png", index, Detection(Box(3, 4, 50, 60), 0.9877, True), False, fakes.predict(name))


def features(*cells):
    text = field_geojson("ward/1", "f.png", cells, tuple(CellClass))
    FeatureCollection.model_validate_json(text)
    return json.loads(text)["features"]


def test_a_cell_is_a_closed_ring_that_runs_counter_clockwise():
    (feature,) = features(cell("neutrophil"))
    (ring,) = feature["geometry"]["coordinates"]
    assert ring == [[3, 4], [53, 4], [53, 64], [3, 64], [3, 4]]
    assert sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in itertools.pairwise(ring)) == 2 * 50 * 60


def test_qupath_finds_a_detection_with_class_and_measurements():
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


def test_a_cell_in_review_is_of_a_class_of_its_own():
    (feature,) = features(cell("review"))
    assert feature["properties"]["classification"]["names"] == ["monocyte", "review"]
    assert feature["properties"]["metadata"]["reason"] == "low_confidence"


def test_what_a_reader_called_an_artefact_is_no_cell_to_qupath():
    found = cell("neutrophil")
    (feature,) = features(replace(found, prediction=reclassify(found.prediction, ARTIFACT, tuple(CellClass))))
    assert feature["properties"]["classification"]["name"] == "artefact"


def test_ids_are_of_the_cell_and_not_of_chance():
    first, again = (
        features(cell("basophil", 1), cell("basophil", 2)),
        features(cell("basophil", 1), cell("basophil", 2)),
    )
    assert first == again
    assert first[0]["id"] != first[1]["id"]


def test_a_field_without_cells_is_an_empty_collection():
    assert features() == []


def test_every_class_has_a_colour_of_its_own():
    assert set(CLASS_COLORS) == set(CellClass)
    assert len(set(CLASS_COLORS.values())) == len(CellClass)


def test_names_that_are_no_utf8_are_written_as_text():
    text = field_geojson("s\udcff", 'a"\n.png', [cell("basophil")], tuple(CellClass))
    assert json.loads(text.encode())["features"][0]["properties"]["metadata"]["slide"] == r"s\xff"
