"""The JSON that `wbctool run --json` prints: the run as `wbctool status --json` has it, and each slide's numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from wbctool.paths import REPORT_HTML, OutputPaths, is_file
from wbctool.store.counts_table import read_outcomes
from wbctool.store.slide_record import WHOLE_NUMBER_COLUMNS
from wbctool.store.status import RunReport, describe_report, read_report


def format_run_summary(output: OutputPaths) -> str:
    """Return the summary of the run that has just ended, as JSON.

    Raises:
        StatusUnknown: No run is on record.
    """
    report = read_report(output)
    content = {
        "schema": "wbctool-run-summary/1",
        **describe_report(report),
        "counts_csv": str(output.counts_csv),
        "workbook": output.workbook and str(output.workbook),
        "folder": str(output.folder),
        "results": list(_iter_results(output, report)),
    }
    return json.dumps(content, indent=1)


def _iter_results(output: OutputPaths, report: RunReport) -> Iterator[dict[str, Any]]:
    """Yield what the tables say of each slide, in their order."""
    for slide, outcome in zip(report.slides, read_outcomes(output) or (), strict=False):
        path = output.slide_file(slide.slide, REPORT_HTML)
        yield {
            "slide": slide.slide,
            "status": slide.status.value,
            "done_in_run": slide.done_in_run,
            **{name: int(outcome.counts[name]) for name in WHOLE_NUMBER_COLUMNS},
            "flags": outcome.flags,
            "report": str(path) if is_file(path) else None,
        }
