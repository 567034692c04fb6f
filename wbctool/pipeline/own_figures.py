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

# The entries that evaluation.json began with before it had a schema.
_FORMER_EVALUATION = r'"data": "(\\.|[^"\\])*",\s*"split": "[a-z-]*",\s*"super_resolve": "'


def _compile_beginning(schema: str, *former: str) -> re.Pattern[bytes]:
    """Return a pattern for the first entries of one of our records: its schema in any version, or the former ones."""
    entries = "|".join((f'"schema": "{schema.partition("/")[0]}/', *former))
    return re.compile(rf"\{{\s*({entries})".encode())


# Their names, the record beside them, and how the record begins.
_FIGURES = (
    (
        re.compile(rf"({'|'.join(VERIFICATION_FIGURES)})\.png"),
        VERIFICATION_JSON,
        _compile_beginning(VERIFICATION_SCHEMA),
    ),
    (
        re.compile(rf"({'|'.join(EVALUATION_FIGURES)})-.*\.png", re.DOTALL),
        EVALUATION_JSON,
        _compile_beginning(EVALUATION_SCHEMA, _FORMER_EVALUATION),
    ),
)


def is_own_figure(path: Path) -> bool:
    """Return whether an image is a figure that wbctool drew. Its folder may still be a slide's, and hold fields."""
    return any(
        name.fullmatch(path.name) and begin.match(read_head_or_empty(path.with_name(record)))
        for name, record, begin in _FIGURES
    )
