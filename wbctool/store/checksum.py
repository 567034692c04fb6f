"""The hash by which a slide.json vouches for all that it says: for careless changes, not against a forger. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

_CHECKSUM_KEY = "sha256"  # the entry that vouches for the others


def add_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a slide.json with its own hash, so that a value that was changed by hand is not believed."""
    return {**content, _CHECKSUM_KEY: canonical_sha256(content)}


def verify_checksum(text: bytes) -> dict[str, Any]:
    """The content of a slide.json, without its hash.

    Raises ValueError where that is not the hash of the rest, or there is none, as earlier versions wrote it.
    """
    try:
        content = dict(json.loads(text))
        if content.pop(_CHECKSUM_KEY, None) == canonical_sha256(content):
            return content
    except (TypeError, RecursionError) as error:
        raise ValueError("it is not the record of a slide") from error
    raise ValueError("its seal does not match; it was altered, or written by an earlier version of wbctool")


def canonical_sha256(content: Mapping[str, Any]) -> str:
    """Of JSON values, however they are laid out."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
