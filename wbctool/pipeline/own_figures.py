"""The figures of `wbctool verify` and `wbctool evaluate`, which are no fields where they lie among slides."""

from __future__ import annotations

import re
from pathlib import Path

from wbctool.imaging.formats import read_head_or_empty
from wbctool.paths import (
    EVALUATION_FIGURES,
    EVALUATION_JSON,
    EVALUATION_SCHEMA,
    VERIFICATION_FIGURES,
    VERIFICATION_JSON,
    VERIFICATION_SCHEMA,
)
from wbctool.store.ownership import begins_with_schema

# The entries that evaluation.json began with before it had a schema.
_FORMER_EVALUATION = re.compile(rb'\{\s*"data": "(\\.|[^"\\])*",\s*"split": "[a-z-]*",\s*"super_resolve": "')

# Their names, the record beside them and its schema.
_FIGURES = (
    (re.compile(rf"({'|'.join(VERIFICATION_FIGURES)})\.png"), VERIFICATION_JSON, VERIFICATION_SCHEMA),
    (re.compile(rf"({'|'.join(EVALUATION_FIGURES)})-.*\.png", re.DOTALL), EVALUATION_JSON, EVALUATION_SCHEMA),
)


def is_own_figure(path: Path) -> bool:
    """Return whether an image is a figure that wbctool drew. Its folder may still be a slide's, and hold fields."""
    return any(
        name.fullmatch(path.name) and _is_record(read_head_or_empty(path.with_name(record)), schema)
        for name, record, schema in _FIGURES
    )


def _is_record(head: bytes, schema: str) -> bool:
    """Return whether a file with this beginning is the record of a schema."""
    is_former = schema == EVALUATION_SCHEMA and _FORMER_EVALUATION.match(head) is not None
    return is_former or begins_with_schema(head, schema)
