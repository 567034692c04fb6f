"""The checksum of a slide.json over its own content. It finds careless changes and does not stop a forger."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_CHECKSUM_KEY = "sha256"  # the entry that holds the hash of all others


def add_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a slide.json with its own hash, by which a change made by hand is found."""
    return {**content, _CHECKSUM_KEY: canonical_sha256(content)}


def verify_checksum(text: bytes) -> dict[str, Any]:
    """Parse a slide.json and check it against its own hash.

    Returns:
        The content, without the hash.

    Raises:
        ValueError: The text is no JSON object, or its hash is missing or is not that of the content.
    """
    try:
        content = dict(json.loads(text))
        if content.pop(_CHECKSUM_KEY, None) == canonical_sha256(content):
            return content
    except (TypeError, RecursionError) as error:
        raise ValueError("it is not the record of a slide") from error
    raise ValueError("its checksum does not match; it was altered, or written by an earlier version of wbctool")


def canonical_sha256(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON values, which does not depend on spaces or the order of keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
