"""Fingerprints: what a slide's results depend on, and which part of that decides its cells.

Results have two. If only the fingerprint of the results has changed, the same cells are shown with other limits or
metadata, such as a reference range or an accession: the tables and the report are rendered again, and reviews stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from wbctool.former_names import SETTINGS, fingerprint_settings, restore_former_names
from wbctool.limits import RENDERING_LIMITS, Limits
from wbctool.store.checksum import canonical_sha256
from wbctool.store.hash_cache import FieldHashes
from wbctool.store.slide_record import SlideRecord
from wbctool.types.slides import SlideMetadata

_CacheKey = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """The fingerprints of a slide's results.

    Attributes:
        results: The hash of everything that the results depend on.
        cells: The hash of what decides the cells and the measured quality of the fields; empty if it is not known, as
            for results of earlier versions.
    """

    results: str
    cells: str

    @classmethod
    def of_record(cls, record: SlideRecord) -> Fingerprints:
        """Return the fingerprints that a record holds."""
        return cls(record.fingerprint, record.cells_fingerprint)


def compute_fingerprints(fields: FieldHashes, cache_key: _CacheKey, metadata: SlideMetadata | None) -> Fingerprints:
    """Return the fingerprints of a slide's results.

    Args:
        fields: Each field's name and the SHA-256 of its content; None if it cannot be read.
        cache_key: What the results of all slides depend on, as JSON values: ``settings`` and more.
        metadata: The slide's line of slides.csv, if it has one.
    """
    settings = _settings_of_cells(cache_key)
    scale = {"um_per_px": metadata.um_per_px} if metadata and metadata.um_per_px is not None else {}
    return Fingerprints(
        _hash_results(fields, cache_key, metadata),
        canonical_sha256({**cache_key, "fields": fields, "settings": settings, **scale}),
    )


def has_same_cells(
    record: SlideRecord, fields: FieldHashes, cache_key: _CacheKey, metadata: SlideMetadata | None
) -> bool:
    """Return whether processing a slide again would find the cells of its record.

    Args:
        record: The slide's record, of any version.
        fields: Name and SHA-256 of each field now.
        cache_key: What the results of all slides depend on now.
        metadata: The slide's line of slides.csv now.
    """
    if record.cells_fingerprint:
        return record.cells_fingerprint == compute_fingerprints(fields, cache_key, metadata).cells
    settings = _settings_of_cells(cache_key)
    return any(
        _hash_results(fields, {**cache_key, "settings": settings | _format_limits(limits)}, earlier)
        == record.fingerprint
        for limits in _iter_run_limits(record)
        for earlier in _iter_earlier_metadata(record, metadata)
    )


def _hash_results(fields: FieldHashes, cache_key: _CacheKey, metadata: SlideMetadata | None) -> str:
    """Return the hash of everything that the results depend on."""
    content = {"fields": fields, **cache_key}
    return canonical_sha256(content if metadata is None else {**content, "metadata": asdict(metadata)})


def _settings_of_cells(cache_key: _CacheKey) -> dict[str, Any]:
    """Return the settings of a cache key without the limits that change no cell."""
    rendering = restore_former_names(dict.fromkeys(RENDERING_LIMITS), SETTINGS)
    return {name: value for name, value in cache_key["settings"].items() if name not in rendering}


def _format_limits(limits: Limits) -> dict[str, Any]:
    """Return the limits that change no cell as a cache key has them."""
    values = limits.model_dump(mode="json", include=set(RENDERING_LIMITS))
    return fingerprint_settings(values)


def _iter_run_limits(record: SlideRecord) -> Iterator[Limits]:
    """Yield the limits that the run of a record may have had; a known age has decided ``adult`` in the record."""
    yield record.limits
    if record.metadata is not None and record.metadata.age is not None:
        yield record.limits.model_copy(update={"adult": not record.limits.adult})


def _iter_earlier_metadata(record: SlideRecord, metadata: SlideMetadata | None) -> Iterator[SlideMetadata | None]:
    """Yield the metadata of a record with the scale of now, which measures the fields."""
    um_per_px = metadata.um_per_px if metadata else None
    if record.metadata is not None:
        yield replace(record.metadata, um_per_px=um_per_px)
    elif um_per_px is None:
        yield None
