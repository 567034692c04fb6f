"""report.html: one slide on one self-contained page."""

from __future__ import annotations

import base64
import io
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from PIL import Image

from wbctool.labels import CellClass
from wbctool.layout import name_shown
from wbctool.records import Cell, Crop, Outcome, Provenance, SlideResult, SlideStatus
from wbctool.report.tables import percent

PICTURE_PX = 96
_JPEG_QUALITY = 85

FLAG_TEXTS = {
    "no_wbc": "No white cell was found.",
    "low_count": "Too few cells were counted for any reading as high or low.",
    "limited_count": "Fewer cells were counted than a reference differential has.",
    "high_review_share": "Many cells await review; the percents may move by much.",
    "out_of_domain": "Many cells look like nothing the model was trained on: another stain, camera or cell type.",
    "immature_granulocytes": "Immature granulocytes were counted.",
    "nrbc": "Nucleated red cells were found.",
    "blurred_fields": "Some fields are blurred.",
    "crowded_fields": "Some fields are crowded.",
    "failed_fields": "Some fields could not be read or analysed; their cells are missing here.",
    "duplicate_fields": "Some fields are the same image; their cells were counted more than once.",
}


def render_report(result: SlideResult, provenance: Provenance) -> str:
    """The page as HTML; the same result gives the same bytes."""
    groups = _gallery(result, provenance.classes)
    return (
        page_environment()
        .get_template("report.html.j2")
        .render(
            result=result,
            differential=result.differential,
            provenance=provenance,
            verdict=_verdict(result),
            flags=[(flag, FLAG_TEXTS[flag]) for flag in result.differential.flags],
            review=groups.pop("review"),
            groups=groups,
        )
    )


def picture(crop: Crop) -> bytes:
    """A JPEG of a crop, of at most PICTURE_PX a side; a smaller crop keeps its pixels."""
    image = Image.fromarray(crop.rgb)
    if crop.side_px > PICTURE_PX:
        image = image.resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return buffer.getvalue()


def _verdict(result: SlideResult) -> str:
    differential = result.differential
    if result.status is SlideStatus.FAILED:
        return "Failed: no field of this slide could be analysed."
    partial = f", without {len(result.failures)} of {result.fields} fields" if result.failures else ""
    review = f"; {differential.review} more await review" if differential.review else ""
    return f"Differential of {differential.counted} counted cells{partial}{review}."


def _gallery(result: SlideResult, classes: tuple[CellClass, ...]) -> dict[str, list[tuple[Cell, bytes]]]:
    """The cells of each heading with their pictures, the least certain first under review."""
    groups: dict[str, list[tuple[Cell, bytes]]] = {"review": [], **{label.value: [] for label in classes}}
    for cell, jpeg in zip(result.cells, result.pictures, strict=True):
        in_review = cell.prediction.outcome is Outcome.REVIEW
        groups["review" if in_review else cell.prediction.label.value].append((cell, jpeg))
    groups["review"].sort(key=lambda entry: entry[0].prediction.confidence)
    return groups


def _words(name: str) -> str:
    return name.replace("_", " ")


def _data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")


@cache
def page_environment() -> Environment:
    """Where pages are made: names are escaped, a value that is missing is an error."""
    environment = Environment(
        loader=PackageLoader("wbctool.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, words=_words, shown=name_shown, data_uri=_data_uri)
    return environment
