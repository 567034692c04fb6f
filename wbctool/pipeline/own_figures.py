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


def _compile_schema_pattern(schema: str, legacy_prefix: str = "") -> re.Pattern[bytes]:
    """Return a pattern for the beginning of one of our records in any version, with or without a schema."""
    return re.compile(rf'\{{\s*("schema": "{schema.partition("/")[0]}/{legacy_prefix})'.encode())


# Their names, the record beside them, and how the record begins.
_FIGURES = (
    (
        re.compile(rf"({'|'.join(VERIFICATION_FIGURES)})\.png"),
        VERIFICATION_JSON,
        _compile_schema_pattern(VERIFICATION_SCHEMA),
    ),
    (
        re.compile(rf"({'|'.join(EVALUATION_FIGURES)})-.*\.png", re.DOTALL),
        EVALUATION_JSON,
        _compile_schema_pattern(
            EVALUATION_SCHEMA, r'|"data": "(\\.|[^"\\])*",\s*"split": "[a-z-]*",\s*"super_resolve": "'
        ),
    ),
)


def is_own_figure(path: Path) -> bool:
    """Return whether an image is a figure that wbctool drew. Its folder may still be a slide's, and hold fields."""
    return any(
        name.fullmatch(path.name) and begin.match(read_head_or_empty(path.with_name(record)))
        for name, record, begin in _FIGURES
    )
