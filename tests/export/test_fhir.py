"""The FHIR bundle against the JSON Schema of R4 (4.0.1), and what it says."""

import json
import re
from dataclasses import replace
from pathlib import Path

import fakes
import pytest

from wbctool.errors import MissingDependency
from wbctool.export.fhir import fhir_bundle
from wbctool.labels import CellClass
from wbctool.limits import Limits
from wbctool.report.flag_texts import EXPORTED_FLAG_TEXTS
from wbctool.stages.differential import count_cells
from wbctool.types.differential import Flag
from wbctool.types.results import FieldFailure, PublishedSlide, SlideResult, SlideStatus
from wbctool.types.slides import SlideMetadata

pytest.importorskip("fhir.resources")
jsonschema = pytest.importorskip("jsonschema")
SCHEMA = json.loads((Path(__file__).parents[1] / "data" / "fhir-r4.schema.json").read_text())
CELLS = ["neutrophil"] * 9 + ["lymphocyte"] * 91 + ["review", "erythroblast", "platelet"]


def slide(names=tuple(CELLS), known=tuple(CellClass), id_="ward/1", status=SlideStatus.OK, reviewed=False, **limits):
    differential = count_cells([fakes.predict(name) for name in names], known, Limits(**limits))
    provenance = replace(fakes.provenance(known), reference_source="our own")
    return PublishedSlide(
        SlideResult(id_, status, 2, (), (), (), differential), ("f1.png",), known, "a" * 64, provenance, reviewed
    )


def resources(*slides):
    bundle = json.loads(fhir_bundle(slides))
    jsonschema.Draft6Validator(SCHEMA).validate(bundle)
    found = {}
    for entry in bundle["entry"]:
        found.setdefault(entry["resource"]["resourceType"], []).append(entry["resource"])
    assert {entry["fullUrl"] for entry in bundle["entry"]} >= references(bundle)
    for observation in found.get("Observation", ()):  # FHIR's invariant obs-6
        assert ("valueQuantity" in observation) != ("dataAbsentReason" in observation)
    return found


def references(content):
    if isinstance(content, dict):
        own = {content["reference"]} if "reference" in content else set()
        return own.union(*map(references, content.values()))
    return set().union(*map(references, content)) if isinstance(content, list) else set()


def observation(found, code):
    (one,) = [o for o in found["Observation"] if o["code"]["coding"][0]["code"] == code]
    return one


def test_fhir_schema_rejects_invalid_status():
    bundle = json.loads(fhir_bundle([slide()]))
    bundle["entry"][1]["resource"]["status"] = "splendid"
    assert not jsonschema.Draft6Validator(SCHEMA).is_valid(bundle)


def test_fhir_observation_has_percent_counts_and_interval():
    found = observation(resources(slide()), "26511-6")
    assert found["valueQuantity"] == {"value": 9, "unit": "%", "system": "http://unitsofmeasure.org", "code": "%"}
    own, all_, interval = found["component"]
    assert (own["valueQuantity"]["value"], all_["valueQuantity"]["value"]) == (9, 100)
    bounds = interval["valueRange"]
    assert (round(bounds["low"]["value"], 1), round(bounds["high"]["value"], 1)) == (4.2, 16.4)  # Rümke's table
    assert (
        found["note"][0]["text"]
        == "9 of 100 counted cells; 95 % interval 4.20 to 16.40 %, covering sampling error only."
    )
    assert found["note"][1]["text"].startswith("Research use only")


def test_fhir_report_refers_to_all_observations():
    found = resources(slide(), slide(id_="ward/2"))
    assert [report["specimen"][0]["identifier"]["value"] for report in found["DiagnosticReport"]] == [
        "ward/1",
        "ward/2",
    ]
    report = found["DiagnosticReport"][0]
    assert report["code"]["coding"][0]["code"] == "69738-3"
    assert len(report["result"]) == 7
    assert "100 cells counted, 1 in review" in report["conclusion"]
    assert "some are counted as other classes, so neither can be excluded" in report["conclusion"]
    assert len(found["Device"]) == 1


def test_fhir_conclusion_counts_failed_fields():
    def conclusion(*fields):
        failures = tuple(FieldFailure("ward/1", field, "read", "empty") for field in fields)
        one = slide()
        (report,) = resources(replace(one, result=replace(one.result, failures=failures)))["DiagnosticReport"]
        return report["conclusion"]

    assert "1 of 2 fields failed." in conclusion("f2.png", "")
    assert "failed" not in conclusion("")


def test_fhir_conclusion_words_every_flag():
    one = slide()
    flagged = replace(one, result=replace(one.result, differential=replace(one.result.differential, flags=tuple(Flag))))
    conclusion = resources(flagged)["DiagnosticReport"][0]["conclusion"]
    assert EXPORTED_FLAG_TEXTS.keys() == set(Flag)
    assert all(text in conclusion.splitlines() for text in EXPORTED_FLAG_TEXTS.values())
    assert not re.search("below|listed|run again|wbctool", conclusion)


def test_fhir_status_unreviewed_is_preliminary():
    decided = [name for name in CELLS if name != "review"]
    before, after = resources(slide(decided)), resources(slide(decided, reviewed=True))
    for kind in ("DiagnosticReport", "Observation"):
        assert {one["status"] for one in before[kind]} == {"preliminary"}
        assert {one["status"] for one in after[kind]} == {"final"}
        assert [one["id"] for one in before[kind]] == [one["id"] for one in after[kind]]


def test_fhir_status_cells_in_review_is_preliminary():
    found = resources(slide(reviewed=True))
    assert {one["status"] for kind in ("DiagnosticReport", "Observation") for one in found[kind]} == {"preliminary"}


def test_fhir_status_unfamiliar_slide_is_preliminary_even_if_reviewed():
    one = slide([name for name in CELLS if name != "review"], reviewed=True)
    differential = replace(one.result.differential, flags=("unfamiliar",))
    found = resources(replace(one, result=replace(one.result, differential=differential)))
    assert {one["status"] for kind in ("DiagnosticReport", "Observation") for one in found[kind]} == {"preliminary"}
    assert "only the surest cells" not in found["DiagnosticReport"][0]["conclusion"]


def test_fhir_erythroblasts_without_white_cells_are_reported():
    found = observation(resources(slide(["erythroblast"] * 5)), "19048-8")
    assert found["dataAbsentReason"]["coding"][0]["code"] == "unknown"
    assert [part["valueQuantity"]["value"] for part in found["component"]] == [5]


def test_fhir_unknown_class_is_absent_not_zero():
    found = resources(slide(known=tuple(CellClass)[:4]))
    for code in ("30180-4", "38518-7", "19048-8"):
        absent = observation(found, code)
        assert absent["dataAbsentReason"]["coding"][0]["code"] == "not-performed"
        assert "component" not in absent


def test_fhir_absent_reason_nothing_counted_or_failed():
    assert _reasons(slide([])) == {"unknown"}
    assert _reasons(slide([], status=SlideStatus.FAILED)) == {"error"}


def _reasons(one):
    return {o["dataAbsentReason"]["coding"][0]["code"] for o in resources(one)["Observation"]}


def test_fhir_reference_range_only_if_in_results():
    found = resources(slide(adult=True))
    neutrophils = observation(found, "26511-6")
    assert [neutrophils["referenceRange"][0][k]["value"] for k in ("low", "high")] == [45, 79]
    assert neutrophils["referenceRange"][0]["text"] == "our own"
    assert neutrophils["interpretation"][0]["coding"][0]["code"] == "L"
    assert "referenceRange" not in observation(found, "38518-7")
    assert not any("referenceRange" in o or "interpretation" in o for o in resources(slide())["Observation"])


def test_fhir_nrbc_unit_is_per_100_leukocytes():
    found = observation(resources(slide()), "19048-8")
    assert (found["valueQuantity"]["value"], found["valueQuantity"]["code"]) == (1, "/100{WBCs}")


def test_fhir_device_names_models_with_hash():
    (device,) = resources(slide())["Device"]
    assert {"type": {"text": "SHA-256 of classifier.onnx"}, "value": "ab" * 32} in device["version"]
    assert "fp32" in device["note"][0]["text"]


def test_fhir_device_provenance_missing_says_so():
    (device,) = resources(replace(slide(), provenance=None))["Device"]
    assert "do not record their models" in device["note"][0]["text"]


def test_fhir_ids_depend_on_results_only():
    assert fhir_bundle([slide()]) == fhir_bundle([slide()])
    other = resources(replace(slide(), cells_id="b" * 64))
    assert other["DiagnosticReport"][0]["id"] != resources(slide())["DiagnosticReport"][0]["id"]


def test_fhir_hostile_name_is_valid():
    report = resources(slide(id_="a\x1b\udcff\n/<b>"))["DiagnosticReport"][0]
    assert report["identifier"][0]["value"] == r"a\x1b\xff\n/<b>"


def test_fhir_no_slides_is_empty_bundle():
    assert "entry" not in json.loads(fhir_bundle([]))


def test_fhir_missing_library_raises_with_instruction(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "fhir.resources.R4B.bundle", None)
    with pytest.raises(MissingDependency, match=r"`wbctool export fhir` needs fhir\S*: pip install 'wbctool\[fhir\]'"):
        fhir_bundle([slide()])


def test_fhir_patient_and_accession_from_metadata():
    plain = slide()
    metadata = SlideMetadata(patient="P-7", accession="24-0117")
    named = replace(plain, result=replace(plain.result, metadata=metadata))
    found = resources(named)
    (report,) = found["DiagnosticReport"]
    assert report["subject"] == {"type": "Patient", "identifier": {"value": "P-7"}}
    assert report["specimen"][0]["identifier"] == {"value": "24-0117"}
    assert {o["subject"]["identifier"]["value"] for o in found["Observation"]} == {"P-7"}
    (without,) = resources(plain)["DiagnosticReport"]
    assert "subject" not in without
    assert without["specimen"][0]["identifier"] == {"value": "ward/1"}
