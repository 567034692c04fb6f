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
from wbctool.paths import RUN_SIGNATURE, OutputPaths
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.report.tables import COUNTS_COLUMNS
from wbctool.settings import RunSettings
from wbctool.store.atomic_write import format_json, write_atomic
from wbctool.store.slide_record import SlideOutcome
from wbctool.timing import add_seconds

_COUNT_COLUMNS = ("fields", "fields_failed", "cells", "counted")  # of a slide


class RunRecord:
    """The manifest of one run; it is written at the start and again at the end."""

    def __init__(self, layout: OutputPaths, settings: RunSettings, stages: BoundStages, argv: Sequence[str]) -> None:
        self._layout, self._batch_sizes = layout, stages.batch_sizes
        self._header: dict[str, Any] = {
            "argv": list(argv),
            "settings": settings.to_flat_dict(),
            "tool_version": wbctool.__version__,
            "git_commit": read_git_commit(),
            "host": platform.node(),
            "device": "cuda" if stages.provenance.provider.startswith("CUDA") else "cpu",
            "provider": stages.provenance.provider,
            "precision": stages.provenance.precision,
            "device_message": stages.device_message,
            "models": {model.file: model.sha256 for model in stages.provenance.models},
            "start": _utc_now(),
        }

    def write_start(self) -> None:
        """Say that the run has begun."""
        self._write({"end": None, "exit_code": None, "stopped_by": None})

    def write_end(
        self,
        outcomes: Sequence[SlideOutcome],
        processed_ids: Container[str],
        exit_code: int,
        stopped_by: str | None,
        executor_info: Mapping[str, Any],
    ) -> None:
        """outcomes: of every slide, in order. processed_ids: the ids of those done in this run. executor_info: who did them."""
        seconds: dict[str, float] = {}
        for outcome in outcomes:
            add_seconds(seconds, outcome.seconds)
        self._write(
            {
                "end": _utc_now(),
                "exit_code": exit_code,
                "stopped_by": stopped_by,
                **executor_info,
                "batch_sizes": dict(self._batch_sizes()),
                "counts": dict(Counter(outcome.status.value for outcome in outcomes)),
                "seconds": _round_seconds(seconds),
                "slides": [
                    {
                        "slide": outcome.slide,
                        "status": outcome.status.value,
                        "done_in_run": outcome.slide in processed_ids,
                        **{name: int(outcome.row[COUNTS_COLUMNS.index(name)]) for name in _COUNT_COLUMNS},
                        "seconds": _round_seconds(outcome.seconds),
                        "errors": [asdict(failure) for failure in outcome.failures],
                    }
                    for outcome in outcomes
                ],
            }
        )

    def _write(self, entries: dict[str, Any]) -> None:
        body = format_json({**self._header, **entries})
        write_atomic(self._layout.run_json, ("{\n " + RUN_SIGNATURE + "," + body.removeprefix("{")).encode("ascii"))


def read_git_commit() -> str | None:
    """The commit of a source checkout; None for an installed package."""
    checkout = Path(wbctool.__file__).parent.parent
    if not (checkout / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
        completed = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return completed.stdout.strip() if completed.returncode == 0 else None


def _round_seconds(seconds: dict[str, float]) -> dict[str, float]:
    return {stage: round(value, 3) for stage, value in sorted(seconds.items())}


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
