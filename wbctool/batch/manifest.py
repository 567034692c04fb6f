"""run.json: what was run, on what, and what came of it."""

from __future__ import annotations

import platform
import subprocess
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import wbctool
from wbctool.batch.clock import add_seconds
from wbctool.batch.publish import json_text, publish
from wbctool.batch.runstate import SlideOutcome
from wbctool.batch.stages import Stages
from wbctool.layout import MANIFEST_MARK, OutputLayout
from wbctool.report.tables import COUNTS_COLUMNS
from wbctool.settings import RunSettings

_NUMBERS = ("fields", "fields_failed", "cells", "counted")  # of a slide


class Manifest:
    """The manifest of one run; it is written at the start and again at the end."""

    def __init__(self, layout: OutputLayout, settings: RunSettings, stages: Stages, argv: Sequence[str]) -> None:
        self._layout, self._rows = layout, stages.rows
        self._head: dict[str, Any] = {
            "argv": list(argv),
            "settings": settings.model_dump(mode="json"),
            "tool_version": wbctool.__version__,
            "git_commit": git_commit(),
            "host": platform.node(),
            "device": "cuda" if stages.provenance.provider.startswith("CUDA") else "cpu",
            "provider": stages.provenance.provider,
            "precision": stages.provenance.precision,
            "device_note": stages.device_note,
            "models": {model.file: model.sha256 for model in stages.provenance.models},
            "start": _now(),
        }

    def write_start(self) -> None:
        """Say that the run has begun."""
        self._publish({"end": None, "exit_code": None, "stopped_by": None})

    def write_end(
        self,
        outcomes: Sequence[SlideOutcome],
        fresh: Container[str],
        exit_code: int,
        stopped_by: str | None,
        doer: Mapping[str, Any],
    ) -> None:
        """outcomes: of every slide, in order. fresh: the ids of those done in this run. doer: who did them."""
        seconds: dict[str, float] = {}
        for outcome in outcomes:
            add_seconds(seconds, outcome.seconds)
        self._publish(
            {
                "end": _now(),
                "exit_code": exit_code,
                "stopped_by": stopped_by,
                **doer,
                "batch_rows": dict(self._rows()),
                "counts": dict(Counter(outcome.status.value for outcome in outcomes)),
                "seconds": _rounded(seconds),
                "slides": [
                    {
                        "slide": outcome.slide,
                        "status": outcome.status.value,
                        "done_in_this_run": outcome.slide in fresh,
                        **{name: int(outcome.row[COUNTS_COLUMNS.index(name)]) for name in _NUMBERS},
                        "seconds": _rounded(outcome.seconds),
                        "errors": [asdict(failure) for failure in outcome.failures],
                    }
                    for outcome in outcomes
                ],
            }
        )

    def _publish(self, rest: dict[str, Any]) -> None:
        body = json_text({**self._head, **rest})
        publish(self._layout.run, ("{\n " + MANIFEST_MARK + "," + body.removeprefix("{")).encode("ascii"))


def git_commit() -> str | None:
    """The commit of a source checkout; None for an installed package."""
    checkout = Path(wbctool.__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _rounded(seconds: dict[str, float]) -> dict[str, float]:
    return {stage: round(value, 3) for stage, value in sorted(seconds.items())}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
