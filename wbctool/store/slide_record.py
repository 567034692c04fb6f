"""What is known of a slide from an earlier run: is it still true?

A slide's state is its ``slide.json``: the fingerprint of all that its results depend on, the hashes of the files that
were published before it, and a hash of all that it says itself. A state counts only while all of them match.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from wbctool.labels import CellClass
from wbctool.paths import CELLS_CSV, DIFFERENTIAL_CSV, ORIGINAL_PREFIX, REPORT_HTML, SLIDE_JSON, OutputPaths
from wbctool.report.tables import COUNTS_COLUMNS, NOT_ASSESSED, empty_row
from wbctool.settings import Limits
from wbctool.store.atomic_write import format_json, write_atomic_group
from wbctool.store.checksum import add_checksum, canonical_sha256, verify_checksum
from wbctool.store.hash_cache import FieldHashes, HashCache
from wbctool.store.slide_facts import DETAIL_KEYS, OutOfRange, parse_metadata, parse_out_of_range
from wbctool.types.cells import Slide
from wbctool.types.results import FieldFailure, ModelRef, Provenance, Review, SlideStatus
from wbctool.types.slides import SlideMetadata

SCHEMA = "wbctool-slide/1"
_COUNT_COLUMNS = (
    "fields",
    "fields_failed",
    "cells",
    "counted",
    "review",
    "not_wbc",
)  # the columns that hold whole numbers
_DETERMINISTIC_STAGES = frozenset(
    {"read", "list"}
)  # stages whose failures lie in the slide's files, not in the machine


@dataclass(frozen=True, slots=True)
class SlideRecord:
    """A slide's last state. row: its values of COUNTS_COLUMNS. files: each other file's SHA-256.

    limits, provenance: what it takes to count and to write it anew. reviews: by readers, in order, since it was done.
    details: what slide.json says besides (wbctool.store.slide_facts).
    """

    fingerprint: str
    status: SlideStatus
    row: tuple[str, ...]
    failures: tuple[FieldFailure, ...]
    files: Mapping[str, str]
    limits: Limits
    provenance: Provenance
    reviews: tuple[Review, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fields(self) -> int:
        """The slide's fields, with those that failed."""
        return int(self.row[COUNTS_COLUMNS.index("fields")])

    @property
    def readers(self) -> tuple[str, ...]:
        """Who reviewed it, each once."""
        return tuple(dict.fromkeys(review.reader for review in self.reviews))

    @property
    def patient(self) -> str:
        """Whose slide it is, as slides.csv has it; empty where it does not say."""
        metadata = parse_metadata(self.details)
        return (metadata.patient or "") if metadata else ""

    @property
    def out_of_range(self) -> OutOfRange:
        """What lies beyond a reference range."""
        return parse_out_of_range(self.details)

    @property
    def is_deterministic(self) -> bool:
        """Whether the slide would give the same again: what the machine lacked once, it may have the next time."""
        return all(failure.stage in _DETERMINISTIC_STAGES for failure in self.failures)


@dataclass(frozen=True, slots=True)
class SlideOutcome:
    """What is known of one slide at the end of a run. row: its values of COUNTS_COLUMNS. seconds: by stage.

    readers: who reviewed it since it was done. patient: as slides.csv has it; empty where it does not say.
    out_of_range: as wbctool.store.slide_facts has it.
    """

    slide: str
    status: SlideStatus
    row: tuple[str, ...]
    failures: tuple[FieldFailure, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    readers: tuple[str, ...] = ()
    patient: str = ""
    out_of_range: OutOfRange = field(default_factory=dict)

    @classmethod
    def from_record(cls, slide: str, record: SlideRecord) -> SlideOutcome:
        """As the slide's state has it."""
        return cls(
            slide,
            record.status,
            record.row,
            record.failures,
            readers=record.readers,
            patient=record.patient,
            out_of_range=record.out_of_range,
        )


def make_failed_outcome(slide: Slide, stage: str, cause: str, model_classes: Collection[CellClass]) -> SlideOutcome:
    """That of a slide of which nothing is published; what an earlier run published stays. model_classes: by the model."""
    status = SlideStatus.FAILED
    row = empty_row(slide.id, status, len(slide.fields), model_classes, "failed_fields")
    return SlideOutcome(slide.id, status, row, (FieldFailure(slide.id, "", stage, cause),))


def fingerprint(fields: FieldHashes, cache_key: Mapping[str, Any]) -> str:
    """What a slide's results depend on, as one hash.

    fields: each field's name and its content's SHA-256, None where it cannot be read. cache_key: the rest, as JSON values.
    """
    return canonical_sha256({"fields": fields, **cache_key})


def build_slide_cache_key(cache_key: Mapping[str, Any], metadata: SlideMetadata | None) -> Mapping[str, Any]:
    """What a slide's results depend on but its fields. cache_key: what those of all slides do."""
    return cache_key if metadata is None else {**cache_key, "metadata": asdict(metadata)}


def publish_slide(
    layout: OutputPaths, slide: str, files: Mapping[str, bytes], record: SlideRecord, fields: FieldHashes
) -> None:
    """Publish a slide's files and, last, its record: where there is no room for all, what was there before stays."""
    content = {
        "schema": SCHEMA,
        "slide": slide,
        "status": record.status.value,
        "fingerprint": record.fingerprint,
        "fields": [{"name": name, "sha256": sha256} for name, sha256 in fields],
        "files": dict(record.files),
        "errors": [asdict(failure) for failure in record.failures],
        "counts": dict(zip(COUNTS_COLUMNS, record.row, strict=True)),
        "limits": record.limits.model_dump(mode="json", include=set(Limits.model_fields)),
        "provenance": asdict(record.provenance),
        "reviews": [asdict(review) for review in record.reviews],
        **record.details,
    }
    contents = {**files, SLIDE_JSON: format_json(add_checksum(content)).encode("ascii")}
    write_atomic_group({layout.slide_file(slide, name): text for name, text in contents.items()})


def is_reviewed(layout: OutputPaths, slide: str) -> bool:
    """Whether a reader has corrected a slide, or was about to: then the originals lie beside its files."""
    return os.path.exists(layout.slide_file(slide, ORIGINAL_PREFIX + SLIDE_JSON))  # noqa: PTH110, raises of no long path


def delete_originals(layout: OutputPaths, slide: str) -> None:
    """Remove what a review had replaced, once the slide was done anew: it belongs to nothing that is still there."""
    for name in (DIFFERENTIAL_CSV, CELLS_CSV, REPORT_HTML, SLIDE_JSON):
        with suppress(OSError):
            layout.slide_file(slide, ORIGINAL_PREFIX + name).unlink()


def read_record(layout: OutputPaths, slide: str, name: str = SLIDE_JSON) -> SlideRecord | None:
    """The last state of a slide; None where there is none, or none as this version wrote it. name: of its file."""
    try:
        content = verify_checksum(layout.slide_file(slide, name).read_bytes())
        if content["schema"] != SCHEMA or content["slide"] != slide:
            return None
        status = _parse_status(content["status"])
        return SlideRecord(
            fingerprint=content["fingerprint"],
            status=status,
            row=_parse_counts(content["counts"], slide, status),
            failures=tuple(FieldFailure(**failure) for failure in content["errors"]),
            files=dict(content["files"]),
            limits=Limits.model_validate(content["limits"]),
            provenance=_parse_provenance(content["provenance"]),
            reviews=tuple(Review(**review) for review in content["reviews"]),
            details={name: content[name] for name in DETAIL_KEYS if name in content},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _parse_status(text: str) -> SlideStatus:
    """Of a slide that was done. Raises ValueError."""
    status = SlideStatus(text)
    if status is SlideStatus.WAITING:
        raise ValueError("a slide with results does not wait")
    return status


def _parse_counts(counts: Mapping[str, str], slide: str, status: SlideStatus) -> tuple[str, ...]:
    """The slide's values of COUNTS_COLUMNS. Raises ValueError where they cannot be."""
    row = tuple(counts.values())
    if tuple(counts) != COUNTS_COLUMNS or row[:2] != (slide, status.value):
        raise ValueError("the counts are another slide's, or another version's")
    numbers = [counts[name] for name in _COUNT_COLUMNS]
    numbers += [value for name, value in counts.items() if name.endswith("_n") and value != NOT_ASSESSED]
    if not all(isinstance(value, str) for value in row) or not all(value.isdecimal() for value in numbers):
        raise ValueError("the counts are not those of a slide")
    return row


def _parse_provenance(content: Mapping[str, Any]) -> Provenance:
    """As slide.json has it, back as it was."""
    return Provenance(
        **{
            **content,
            "classes": tuple(CellClass(name) for name in content["classes"]),
            "models": tuple(ModelRef(**model) for model in content["models"]),
            "settings": tuple((str(name), str(value)) for name, value in content["settings"]),
        }
    )


def iter_records_below(layout: OutputPaths, slide: str) -> Iterator[tuple[str, SlideRecord]]:
    """The known slides whose ids begin with ``slide/``, with their states, in order of their paths."""
    for path in sorted(layout.slide_folder(slide).glob(f"*/**/{SLIDE_JSON}")):
        with suppress(OSError, ValueError, KeyError):
            id_ = str(verify_checksum(path.read_bytes())["slide"])
            if id_.startswith(f"{slide}/") and (record := read_record(layout, id_)):
                yield id_, record


def outputs_match(layout: OutputPaths, slide: str, record: SlideRecord, hash_cache: HashCache) -> bool:
    """Whether the three files of a slide are there, as they were published."""
    return record.files.keys() == {DIFFERENTIAL_CSV, CELLS_CSV, REPORT_HTML} and all(
        hash_cache.hash_file(layout.slide_file(slide, name), Path.read_bytes) == sha256
        for name, sha256 in record.files.items()
    )
