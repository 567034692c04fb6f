"""Differentials as a FHIR R4 bundle for a laboratory information system: a report and its observations for each slide.

The resources are built with fhir.resources (its R4B models; the five resources used here are the same in R4, 4.0.1), so
their structure is valid by construction. That library checks neither bound codes nor invariants; the codes used here
are from the value sets of R4. tests/export/test_fhir.py checks the bundle against the JSON Schema of 4.0.1.

The same results give the same bytes. The id of a resource is a UUID (version 5) of the slide and of its fingerprint, so
a review of a slide or another accession updates its resources, and other images or models create new ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from wbctool.export.fhir_datatypes import (
    LOINC,
    LOINC_PANEL,
    Resource,
    coding,
    loinc_concept,
    quantity,
    reference,
    resource_id,
)
from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass
from wbctool.optional import require_extra
from wbctool.report.flag_texts import EXPORTED_FLAG_TEXTS, NOT_EXCLUDED
from wbctool.store.ownership import FileKind
from wbctool.text import display_name, pluralize, replace_underscores
from wbctool.types.differential import ClassCount
from wbctool.types.results import Provenance, PublishedSlide, SlideStatus, count_failed_fields

if TYPE_CHECKING:
    from fhir.resources.R4B.bundle import Bundle


RESEARCH_USE = "Research use only. No diagnosis without a qualified reader."
_INTERVAL_TEXT = (
    "Exact binomial (Clopper-Pearson) 95 % interval; it covers sampling error only, not errors of classification"
)
_LABORATORY = {"coding": [coding("observation-category", "laboratory")]}
_HEMATOLOGY = {"coding": [coding("v2-0074", "HM", "Hematology")]}
_INTERPRETATIONS = {  # by the flag of a class
    flag: [{"coding": [coding("v3-ObservationInterpretation", *code)]}]
    for flag, code in {"high": ("H", "High"), "low": ("L", "Low")}.items()
}


def fhir_bundle(slides: Iterable[PublishedSlide]) -> str:
    """Return a Bundle of type ``collection`` as JSON.

    It has the DiagnosticReport and the Observations of each slide, and the Devices. Reports are ``final`` if a reader
    has reviewed the slide and no cell is left in review, else ``preliminary``; that of an unfamiliar slide is never
    ``final``.

    Raises:
        MissingDependency: The extra ``fhir`` is not installed.

    References:
        HL7 FHIR R4, https://hl7.org/fhir/R4/
    """
    with require_extra("fhir", "`wbctool export fhir`"):
        from fhir.resources.R4B.bundle import Bundle
    devices: dict[str, Resource] = {}
    reports: list[Resource] = []
    for slide in slides:
        device = _device(slide.provenance)
        devices[device["id"]] = device
        observations = _observations(slide, reference(device))
        reports += [_report(slide, observations), *observations]
    resources = [*reports, *devices.values()]
    bundle: Bundle = Bundle.model_validate(
        {
            "resourceType": "Bundle",
            "id": resource_id("bundle", *(resource["id"] for resource in resources)),
            "type": "collection",
            "entry": [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources]
            or None,
        }
    )
    return str(bundle.model_dump_json(indent=1)) + "\n"


def _is_bundle(path: Path) -> bool:
    """Return whether a file is a Bundle of ours: its id is the hash of its resources' ids."""
    content = json.loads(path.read_bytes())
    ids = [entry["resource"]["id"] for entry in content.get("entry") or ()]
    return bool(content["id"] == resource_id("bundle", *ids))


FHIR_FILE = FileKind("a Bundle as `wbctool export fhir` writes it", _is_bundle)


def _report(slide: PublishedSlide, observations: list[Resource]) -> Resource:
    """Return the DiagnosticReport of a slide."""
    return {
        "resourceType": "DiagnosticReport",
        "id": resource_id("report", slide.result.slide, slide.cells_id),
        "identifier": [{"value": display_name(slide.result.slide)}],
        "status": _status(slide),
        "subject": _subject(slide),
        "category": [_HEMATOLOGY],
        "code": loinc_concept(*LOINC_PANEL, "White-cell differential of a blood smear"),
        "specimen": [_specimen(slide)],
        "result": [reference(observation) for observation in observations],
        "conclusion": _conclusion(slide),
    }


def _conclusion(slide: PublishedSlide) -> str:
    """Return counts, failures, flags and limits of a slide, one sentence per line."""
    result, differential, failed = slide.result, slide.result.differential, count_failed_fields(slide.result.failures)
    lines = [
        f"{pluralize(differential.counted, 'cell')} counted, {differential.review} in review for a reader, "
        f"{differential.not_wbc} not white cells.",
        f"{failed} of {pluralize(result.fields, 'field')} failed." if failed else "",
        *(EXPORTED_FLAG_TEXTS[flag] for flag in differential.flags),
        "Reviewed by a reader." if slide.reviewed else "Not reviewed by a reader.",
        NOT_EXCLUDED,
        RESEARCH_USE,
    ]
    return "\n".join(line for line in lines if line)


def _observations(slide: PublishedSlide, device: Resource) -> list[Resource]:
    """Return one Observation per class of the differential, in order, and one of the nucleated red cells."""
    result, differential = slide.result, slide.result.differential
    failed = result.status is SlideStatus.FAILED
    source = slide.provenance.reference_source if slide.provenance else ""
    observations = [
        {
            **_observation(slide, count.label, device),
            **_value(count.percent, "%", "%", count.assessed, failed),
            **_reference_range(count, source),
            **_counts_and_interval(count, differential.counted),
        }
        for count in differential.classes
    ]
    nrbc, assessed = differential.nrbc_per_100_wbc, differential.nrbc_assessed
    value = _value(nrbc, "per 100 WBC", "/100{WBCs}", assessed, failed)
    component = (
        [_count_component(differential.erythroblasts, "Erythroblasts found")] if assessed and not failed else None
    )
    return [*observations, {**_observation(slide, CellClass.ERYTHROBLAST, device), **value, "component": component}]


def _observation(slide: PublishedSlide, label: CellClass, device: Resource) -> Resource:
    """Return an Observation without its value."""
    text = replace_underscores(label.value)
    share = "percent of the counted leukocytes" if label in DIFFERENTIAL_CLASSES else "per 100 counted leukocytes"
    return {
        "resourceType": "Observation",
        "id": resource_id("observation", slide.result.slide, slide.cells_id, label.value),
        "status": _status(slide),
        "subject": _subject(slide),
        "category": [_LABORATORY],
        "code": loinc_concept(*LOINC[label], f"{text}, {share}"),
        "method": {"text": "Microscopy of a stained smear, cells found and classified by software"},
        "specimen": _specimen(slide),
        "device": device,
        "note": [{"text": RESEARCH_USE}],
    }


def _value(value: float | None, unit: str, ucum: str, assessed: bool, failed: bool) -> Resource:
    """Return the value of an Observation, or the reason why it has none."""
    if value is not None and assessed:
        return {"valueQuantity": quantity(value, unit, ucum)}
    if not assessed:
        code, text = "not-performed", "Not assessed: the model does not know this class"
    elif failed:
        code, text = "error", "The slide could not be analyzed"
    else:
        code, text = "unknown", "No cell was counted"
    return {"dataAbsentReason": {"coding": [coding("data-absent-reason", code)], "text": text}}


def _counts_and_interval(count: ClassCount, counted: int) -> Resource:
    """Return the raw counts and the interval, as components for software and as a note for people."""
    if count.percent is None or count.ci95_low is None or count.ci95_high is None:
        return {}
    interval = {
        "code": {
            "coding": [coding("attribute-estimate-type", "C53324", "Confidence interval")],
            "text": _INTERVAL_TEXT,
        },
        "valueRange": {"low": quantity(count.ci95_low, "%", "%"), "high": quantity(count.ci95_high, "%", "%")},
    }
    cells = (
        _count_component(count.n, "Cells of this class"),
        _count_component(counted, "Counted leukocytes of all classes"),
    )
    counts_text = f"{count.n} of {pluralize(counted, 'counted cell')}"
    interval_text = f"95 % interval {count.ci95_low:.2f} to {count.ci95_high:.2f} %, covering sampling error only."
    return {
        "component": [*cells, interval],
        "note": [{"text": f"{counts_text}; {interval_text}"}, {"text": RESEARCH_USE}],
    }


def _reference_range(count: ClassCount, source: str) -> Resource:
    """Return the reference range with its high or low flag; empty if the results have no range."""
    if count.reference_low is None or count.reference_high is None:
        return {}
    low, high = quantity(count.reference_low, "%", "%"), quantity(count.reference_high, "%", "%")
    resource: Resource = {"referenceRange": [{"low": low, "high": high, "text": source or None}]}
    if count.flag in _INTERPRETATIONS:
        resource["interpretation"] = _INTERPRETATIONS[count.flag]
    return resource


def _device(provenance: Provenance | None) -> Resource:
    """Return the Device: wbctool with the name, version and SHA-256 of each model."""
    device_name = [{"name": "wbctool", "type": "model-name"}]
    if provenance is None:
        note = "These results do not record their models. Run `wbctool run --force` to record them."
        return {
            "resourceType": "Device",
            "id": resource_id("device"),
            "deviceName": device_name,
            "note": [{"text": note}, {"text": RESEARCH_USE}],
        }
    run_description = f"{provenance.provider}, {provenance.precision}; " + ", ".join(
        f"{k}={v}" for k, v in provenance.settings
    )
    versions = [{"type": {"text": "software"}, "value": provenance.tool_version}]
    for model in provenance.models:
        versions.append({"type": {"text": f"model {model.file}"}, "value": f"{model.name} {model.version}"})
        versions.append({"type": {"text": f"SHA-256 of {model.file}"}, "value": model.sha256})
    id_parts = [part for version in versions for part in (str(version["type"]), str(version["value"]))]
    return {
        "resourceType": "Device",
        "id": resource_id("device", run_description, *id_parts),
        "deviceName": device_name,
        "version": versions,
        "note": [{"text": f"Ran as {run_description}"}, {"text": RESEARCH_USE}],
    }


def _status(slide: PublishedSlide) -> str:
    """Return the status of a report and its observations."""
    return "final" if slide.is_final else "preliminary"


def _subject(slide: PublishedSlide) -> Resource | None:
    """Return the patient by the laboratory's own number, or None if slides.csv does not name one."""
    metadata = slide.result.metadata
    if metadata is None or metadata.patient is None:
        return None
    return {"type": "Patient", "identifier": {"value": display_name(metadata.patient)}}


def _specimen(slide: PublishedSlide) -> Resource:
    """Return the smear by its accession number, or by the slide's name if slides.csv has no number."""
    metadata = slide.result.metadata
    number = metadata.accession if metadata and metadata.accession else slide.result.slide
    return {"identifier": {"value": display_name(number)}, "display": f"Smear {display_name(slide.result.slide)}"}


def _count_component(count: int, text: str) -> Resource:
    """Return a component with a number of cells."""
    return {"code": {"text": text}, "valueQuantity": quantity(count, "cells", "{cells}")}
