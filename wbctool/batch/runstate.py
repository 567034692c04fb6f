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

from wbctool.batch.publish import json_text, publish_together
from wbctool.batch.seal import seal, sha256_of, unseal
from wbctool.batch.seen_files import FieldHashes, SeenFiles
from wbctool.labels import CellClass
from wbctool.layout import CELLS, DIFFERENTIAL, ORIGINAL_PREFIX, REPORT, SLIDE, OutputLayout
from wbctool.records import Slide
from wbctool.report.facts import FACTS, OutOfRange, metadata_of, out_of_range_of
from wbctool.report.tables import COUNTS_COLUMNS, NOT_ASSESSED, empty_row
from wbctool.settings import Limits
from wbctool.slide_facts import SlideMetadata
from wbctool.slide_results import FieldFailure, ModelUsed, Provenance, Review, SlideStatus

SCHEMA = "wbctool-slide/1"
_NUMBERS = ("fields", "fields_failed", "cells", "counted", "review", "not_wbc")  # the columns that hold whole numbers
_OF_THE_SLIDE = frozenset({"read", "list"})  # stages whose failures lie in the slide's files, not in the machine


@dataclass(frozen=True, slots=True)
class SlideState:
    """A slide's last state. row: its values of COUNTS_COLUMNS. files: each other file's SHA-256.

    limits, provenance: what it takes to count and to write it anew. reviews: by readers, in order, since it was done.
    facts: what slide.json says besides (wbctool.report.facts).
    """

    fingerprint: str
    status: SlideStatus
    row: tuple[str, ...]
    failures: tuple[FieldFailure, ...]
    files: Mapping[str, str]
    limits: Limits
    provenance: Provenance
    reviews: tuple[Review, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

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
        metadata = metadata_of(self.facts)
        return (metadata.patient or "") if metadata else ""

    @property
    def out_of_range(self) -> OutOfRange:
        """What lies beyond a reference range."""
        return out_of_range_of(self.facts)

    @property
    def is_settled(self) -> bool:
        """Whether the slide would give the same again: what the machine lacked once, it may have the next time."""
        return all(failure.stage in _OF_THE_SLIDE for failure in self.failures)


@dataclass(frozen=True, slots=True)
class SlideOutcome:
    """What is known of one slide at the end of a run. row: its values of COUNTS_COLUMNS. seconds: by stage.

    readers: who reviewed it since it was done. patient: as slides.csv has it; empty where it does not say.
    out_of_range: as wbctool.report.facts has it.
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
    def of_state(cls, slide: str, state: SlideState) -> SlideOutcome:
        """As the slide's state has it."""
        return cls(
            slide,
            state.status,
            state.row,
            state.failures,
            readers=state.readers,
            patient=state.patient,
            out_of_range=state.out_of_range,
        )


def failed_outcome(slide: Slide, stage: str, cause: str, known: Collection[CellClass]) -> SlideOutcome:
    """That of a slide of which nothing is published; what an earlier run published stays. known: by the model."""
    status = SlideStatus.FAILED
    row = empty_row(slide.id, status, len(slide.fields), known, "failed_fields")
    return SlideOutcome(slide.id, status, row, (FieldFailure(slide.id, "", stage, cause),))


def fingerprint(fields: FieldHashes, basis: Mapping[str, Any]) -> str:
    """What a slide's results depend on, as one hash.

    fields: each field's name and its content's SHA-256, None where it cannot be read. basis: the rest, as JSON values.
    """
    return sha256_of({"fields": fields, **basis})


def slide_basis(basis: Mapping[str, Any], metadata: SlideMetadata | None) -> Mapping[str, Any]:
    """What a slide's results depend on but its fields. basis: what those of all slides do."""
    return basis if metadata is None else {**basis, "metadata": asdict(metadata)}


def publish_slide(
    layout: OutputLayout, slide: str, files: Mapping[str, bytes], state: SlideState, fields: FieldHashes
) -> None:
    """Publish a slide's files and, last, its state: where there is no room for all, what was there before stays."""
    content = {
        "schema": SCHEMA,
        "slide": slide,
        "status": state.status.value,
        "fingerprint": state.fingerprint,
        "fields": [{"name": name, "sha256": sha256} for name, sha256 in fields],
        "files": dict(state.files),
        "errors": [asdict(failure) for failure in state.failures],
        "counts": dict(zip(COUNTS_COLUMNS, state.row, strict=True)),
        "limits": state.limits.model_dump(mode="json", include=set(Limits.model_fields)),
        "provenance": asdict(state.provenance),
        "reviews": [asdict(review) for review in state.reviews],
        **state.facts,
    }
    written = {**files, SLIDE: json_text(seal(content)).encode("ascii")}
    publish_together({layout.slide_file(slide, name): text for name, text in written.items()})


def is_reviewed(layout: OutputLayout, slide: str) -> bool:
    """Whether a reader has corrected a slide, or was about to: then the originals lie beside its files."""
    return os.path.exists(layout.slide_file(slide, ORIGINAL_PREFIX + SLIDE))  # noqa: PTH110, raises of no long path


def remove_originals(layout: OutputLayout, slide: str) -> None:
    """Remove what a review had replaced, once the slide was done anew: it belongs to nothing that is still there."""
    for name in (DIFFERENTIAL, CELLS, REPORT, SLIDE):
        with suppress(OSError):
            layout.slide_file(slide, ORIGINAL_PREFIX + name).unlink()


def read_state(layout: OutputLayout, slide: str, name: str = SLIDE) -> SlideState | None:
    """The last state of a slide; None where there is none, or none as this version wrote it. name: of its file."""
    try:
        content = unseal(layout.slide_file(slide, name).read_bytes())
        if content["schema"] != SCHEMA or content["slide"] != slide:
            return None
        status = _status(content["status"])
        return SlideState(
            fingerprint=content["fingerprint"],
            status=status,
            row=_row(content["counts"], slide, status),
            failures=tuple(FieldFailure(**failure) for failure in content["errors"]),
            files=dict(content["files"]),
            limits=Limits.model_validate(content["limits"]),
            provenance=_provenance(content["provenance"]),
            reviews=tuple(Review(**review) for review in content["reviews"]),
            facts={name: content[name] for name in FACTS if name in content},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _status(text: str) -> SlideStatus:
    """Of a slide that was done. Raises ValueError."""
    status = SlideStatus(text)
    if status is SlideStatus.WAITING:
        raise ValueError("a slide with results does not wait")
    return status


def _row(counts: Mapping[str, str], slide: str, status: SlideStatus) -> tuple[str, ...]:
    """The slide's values of COUNTS_COLUMNS. Raises ValueError where they cannot be."""
    row = tuple(counts.values())
    if tuple(counts) != COUNTS_COLUMNS or row[:2] != (slide, status.value):
        raise ValueError("the counts are another slide's, or another version's")
    numbers = [counts[name] for name in _NUMBERS]
    numbers += [value for name, value in counts.items() if name.endswith("_n") and value != NOT_ASSESSED]
    if not all(isinstance(value, str) for value in row) or not all(value.isdecimal() for value in numbers):
        raise ValueError("the counts are not those of a slide")
    return row


def _provenance(content: Mapping[str, Any]) -> Provenance:
    """As slide.json has it, back as it was."""
    return Provenance(
        **{
            **content,
            "classes": tuple(CellClass(name) for name in content["classes"]),
            "models": tuple(ModelUsed(**model) for model in content["models"]),
            "settings": tuple((str(name), str(value)) for name, value in content["settings"]),
        }
    )


def states_below(layout: OutputLayout, slide: str) -> Iterator[tuple[str, SlideState]]:
    """The known slides whose ids begin with ``slide/``, with their states, in order of their paths."""
    for path in sorted(layout.slide_folder(slide).glob(f"*/**/{SLIDE}")):
        with suppress(OSError, ValueError, KeyError):
            id_ = str(unseal(path.read_bytes())["slide"])
            if id_.startswith(f"{slide}/") and (state := read_state(layout, id_)):
                yield id_, state


def files_intact(layout: OutputLayout, slide: str, state: SlideState, seen: SeenFiles) -> bool:
    """Whether the three files of a slide are there, as they were published."""
    return state.files.keys() == {DIFFERENTIAL, CELLS, REPORT} and all(
        seen.hash_file(layout.slide_file(slide, name), Path.read_bytes) == sha256
        for name, sha256 in state.files.items()
    )
