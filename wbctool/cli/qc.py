"""`wbctool qc`: Levey-Jennings charts of the QC slides over all runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wbctool.cli.errors import handle_errors
from wbctool.cli.options import Results
from wbctool.cli.output import echo_optional
from wbctool.errors import StatusUnknown
from wbctool.exit_codes import ExitCode
from wbctool.text import display_name

if TYPE_CHECKING:
    from wbctool.paths import OutputPaths
    from wbctool.qc.types import QcRecord


def qc(
    out: Results,
    slide: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this QC slide. May be repeated.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the charts go. Default: a folder beside OUT.")
    ] = None,
    baseline: Annotated[int, typer.Option(metavar="N", min=2, help="The first N values give the mean and SD.")] = 20,
) -> None:
    """Draw Levey-Jennings charts of the QC slides over all runs, and judge the latest values by the Westgard rules.

    The setting qc_slides names the QC slides. Exit codes: 0 in control, or not judged yet; 3 a latest value breaks a
    rejection rule, or is missing because nothing was counted; 1 there is no history.
    """
    with handle_errors():
        raise typer.Exit(_draw_charts(out, slide or [], folder, baseline))


def _draw_charts(out: Path, slides: Sequence[str], folder: Path | None, baseline: int) -> int:
    """Write the charts, print the state of each, and return the exit code."""
    from wbctool.paths import LEVEY_JENNINGS_CSV, LEVEY_JENNINGS_HTML, OutputPaths
    from wbctool.qc.levey_jennings import CHARTS_FILE, charts_csv, describe_charts, render_charts
    from wbctool.qc.westgard import build_control_charts
    from wbctool.store.atomic_write import write_atomic
    from wbctool.store.ownership import check_overwrite_folder

    output = OutputPaths.from_path(out)
    records = _read_history(output)
    known_slides = {record.slide for record in records}
    for slide in slides:
        if slide not in known_slides:
            raise StatusUnknown(
                f"{output.qc_history_csv} has no slide {slide}; it has {', '.join(sorted(known_slides))}"
            )
    charts = build_control_charts([record for record in records if not slides or record.slide in slides], baseline)
    option = "--out" if folder else ""
    folder = folder or output.qc_folder
    check_overwrite_folder(folder, LEVEY_JENNINGS_CSV, CHARTS_FILE, [LEVEY_JENNINGS_HTML], option)
    write_atomic(folder / LEVEY_JENNINGS_CSV, charts_csv(charts).encode())  # first, as it marks the page as ours
    write_atomic(folder / LEVEY_JENNINGS_HTML, render_charts(charts).encode())
    for line in describe_charts(charts):
        echo_optional(line)
    echo_optional(f"{display_name(str(folder / LEVEY_JENNINGS_HTML))} written")
    return ExitCode.NEEDS_ATTENTION if any(chart.is_out_of_control for chart in charts) else ExitCode.DONE


def _read_history(output: OutputPaths) -> tuple[QcRecord, ...]:
    """Read the history of the QC slides, which a run with the setting qc_slides writes."""
    from wbctool.qc.history import parse_history

    path = output.qc_history_csv
    try:
        records = parse_history(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StatusUnknown(
            f"{path} is missing: no run has processed a QC slide yet (see the setting qc_slides)"
        ) from error
    except (OSError, ValueError) as error:
        raise StatusUnknown(f"{path} is not a valid QC history: {error}") from error
    if not records:
        raise StatusUnknown(f"{path} is empty")
    return records
