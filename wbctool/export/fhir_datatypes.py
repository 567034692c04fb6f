"""The codes and data types of FHIR R4 of which the bundle is built.

References:
    HL7 FHIR R4, https://hl7.org/fhir/R4/datatypes.html
"""

from __future__ import annotations

import uuid
from typing import Any

from wbctool.labels import CellClass
from wbctool.text import encode_name

Resource = dict[str, Any]

# LOINC terms without a method; a laboratory should check them against the release that it uses.
LOINC_PANEL = ("69738-3", "Differential panel, method unspecified - Blood")
LOINC = {
    CellClass.NEUTROPHIL: ("26511-6", "Neutrophils/Leukocytes in Blood"),
    CellClass.LYMPHOCYTE: ("26478-8", "Lymphocytes/Leukocytes in Blood"),
    CellClass.MONOCYTE: ("26485-3", "Monocytes/Leukocytes in Blood"),
    CellClass.EOSINOPHIL: ("26450-7", "Eosinophils/Leukocytes in Blood"),
    CellClass.BASOPHIL: ("30180-4", "Basophils/Leukocytes in Blood"),
    CellClass.IMMATURE_GRANULOCYTE: ("38518-7", "Immature granulocytes/Leukocytes in Blood"),
    CellClass.ERYTHROBLAST: ("19048-8", "Nucleated erythrocytes/Leukocytes [Ratio] in Blood"),
}
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_NAMESPACE = uuid.UUID("0e2b7c0e-9a5b-4f0c-8f55-5d3b1a3f6d0c")


def resource_id(*parts: str) -> str:
    """Return a UUID that depends only on the parts."""
    return str(uuid.uuid5(_NAMESPACE, "\0".join(map(encode_name, parts))))


def reference(resource: Resource) -> Resource:
    """Return a Reference to a resource of the bundle."""
    return {"reference": f"urn:uuid:{resource['id']}", "type": resource["resourceType"]}


def coding(system: str, code: str, display: str | None = None) -> Resource:
    """Return a Coding.

    Args:
        system: Name of a code system of HL7's terminology, such as ``observation-category``.
        code: The code in it.
        display: The code in words; None to leave it out.
    """
    return {"system": f"{_TERMINOLOGY}/{system}", "code": code, **({"display": display} if display else {})}


def loinc_concept(code: str, display: str, text: str) -> Resource:
    """Return a CodeableConcept with a LOINC code.

    Args:
        code: The code.
        display: LOINC's name of it.
        text: What is meant, in our own words.
    """
    return {"coding": [{"system": "http://loinc.org", "code": code, "display": display}], "text": text}


def quantity(value: float, unit: str, ucum: str) -> Resource:
    """Return a Quantity.

    Args:
        value: The value.
        unit: Its unit for people.
        ucum: Its unit as a UCUM code.
    """
    return {"value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": ucum}
