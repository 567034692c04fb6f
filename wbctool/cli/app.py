"""The commands and their options. What a command needs is imported when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import wbctool
from wbctool.cli.export_app import export_app
from wbctool.cli.guard import handle_errors
from wbctool.cli.models_app import ModelsDir, models_app
from wbctool.cli.review_app import review_app
from wbctool.cli.train_app import train
from wbctool.enums import Device, Precision, SuperResolve

_WRONG_USAGE = 2  # as click ends with it too

app = typer.Typer(
    help="White-cell differentials from folders of blood smear images. Research use only.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(models_app, name="models")
app.add_typer(export_app, name="export")
app.add_typer(review_app, name="review")


class SplitChoice(StrEnum):
    """Which labelled sources `evaluate` uses."""

    TEST = "test"
    VALIDATION = "validation"
    ALL = "all"


def main() -> None:
    """The entry point of the command `wbctool`."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a file's name may hold what the terminal's encoding does not
            reconfigure(errors="backslashreplace")
    if any(not argument or re.fullmatch("--[^=]*=", argument) for argument in sys.argv[1:]):
        # As a path it would be the folder that cron starts in.
        print("wbctool: an argument is empty; is a variable of the script unset?", file=sys.stderr)
        sys.exit(_WRONG_USAGE)
    try:
        app(prog_name="wbctool")
    except OSError as error:
        if not _is_stdout_broken():
            raise
        with suppress(OSError):
            print(f"wbctool: standard output cannot be written: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)


def _is_stdout_broken() -> bool:
    """Whether standard output takes not even a line's end. If so, what it still holds is dropped."""
    try:
        print(flush=True)
        return False
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True


@app.command()
def run(
    slides: Annotated[
        Path,
        typer.Argument(metavar="SLIDES", readable=False, help="Folder of slides. A slide is a folder of images."),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="CSV", help="Table to write, x.csv. The other results go into the folder x beside it."),
    ],
    models_dir: ModelsDir = None,
    device: Annotated[Device | None, typer.Option(help="Where the models run. Default: auto.")] = None,
    super_resolve: Annotated[
        SuperResolve | None, typer.Option(help="Which cells the generator enlarges. Default: auto.")
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="Precision of the models. Default: auto.")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Worker threads. Default: one per core.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Cells classified together on a GPU. Default: 64.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="TOML file of settings. Options given here override it."),
    ] = None,
    force: Annotated[bool | None, typer.Option("--force", help="Process every slide again.")] = None,
    retry_failed: Annotated[
        bool | None, typer.Option("--retry-failed", help="Process failed and partial slides again.")
    ] = None,
    settle_s: Annotated[
        float | None, typer.Option("--settle", metavar="SECONDS", help="Skip slides changed within the last SECONDS.")
    ] = None,
    follow_links: Annotated[
        bool | None, typer.Option("--follow-links", help="Follow symbolic links that lead out of SLIDES.")
    ] = None,
    max_failures: Annotated[
        int | None, typer.Option(metavar="N", help="Stop once N slides of this run are failed or partial.")
    ] = None,
    dry_run: Annotated[bool | None, typer.Option("--dry-run", help="Show what would be done; write nothing.")] = None,
    quiet: Annotated[bool | None, typer.Option("--quiet", help="Print errors only.")] = None,
    log_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Log to FILE, one JSON object per line.")
    ] = None,
    metrics: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write metrics for Prometheus's textfile collector to FILE, x.prom."),
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Process the slides on this Dask scheduler's workers.")
    ] = None,
    adult: Annotated[
        bool | None,
        typer.Option("--adult", help="Treat slides without an age in slides.csv as adults: show reference ranges."),
    ] = None,
) -> None:
    """Count the white cells on every slide in SLIDES.

    Exit codes: 0 done; 1 nothing usable could be written; 2 wrong usage; 3 at least one slide is failed or partial;
    4 no image found; 5 another run is using the output; 130, 143 stopped.
    """
    flags = {name: value for name, value in locals().items() if name != "config"}
    with handle_errors():
        # NumPy reads it when it is first imported. BLAS threads that spin took an eighth of the time from the workers.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from wbctool.cli.running import run_command

        raise typer.Exit(run_command(flags, config))


@app.command()
def status(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The CSV given to run --out, or the folder beside it.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    max_age: Annotated[
        float | None, typer.Option(metavar="HOURS", help="Exit with 1 if no run has ended within the last HOURS.")
    ] = None,
) -> None:
    """Show when the last run was, what it did, and which slides failed or are waiting.

    Exit codes: 1 if there has been no run, the last one was killed, or none has ended within --max-age, even if one is
    running; otherwise 0 while a run is in progress; otherwise that of the last run (0 all is well, 3 at least one slide
    is failed or partial).
    """
    with handle_errors():
        from wbctool.cli.running import status_command

        raise typer.Exit(status_command(out, as_json, max_age))


@app.command()
def qc(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The CSV given to run --out, or the folder beside it.")],
    slide: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this QC slide. May be repeated.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the charts go. Default: a folder beside OUT.")
    ] = None,
    baseline: Annotated[int, typer.Option(metavar="N", min=2, help="The first N values give the mean and SD.")] = 20,
) -> None:
    """Draw Levey-Jennings charts of the QC slides over all runs, and judge the latest values by the Westgard rules.

    The setting qc_slides names the QC slides. Exit codes: 0 in control; 3 a latest value breaks a rejection rule, or is
    missing because nothing was counted; 1 there is no history.
    """
    with handle_errors():
        from wbctool.cli.quality import qc_command

        raise typer.Exit(qc_command(out, slide or [], folder, baseline))


app.command()(train)


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Class folders of cell images, or fields with boxes.")],
    models_dir: ModelsDir = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the figures and evaluation.json go.")] = None,
    split: Annotated[
        SplitChoice, typer.Option(help="Sources held back from training; sources used for making choices; or all.")
    ] = SplitChoice.TEST,
    super_resolve: Annotated[
        SuperResolve, typer.Option(help="Which cells the generator enlarges.")
    ] = SuperResolve.AUTO,
    precision: Annotated[Precision, typer.Option(help="Precision of the models.")] = Precision.AUTO,
    sr_cells: Annotated[
        int, typer.Option(metavar="N", min=0, help="Cells per data set for comparing the generators; 0: none.")
    ] = 100,
    ood_images: Annotated[
        int, typer.Option(metavar="N", min=0, help="Images of each kind that show no cell of a known class; 0: none.")
    ] = 100,
) -> None:
    """Measure the models on labelled data. Requires: pip install 'wbctool[evaluate]'."""
    with handle_errors():
        from wbctool.cli.measuring import evaluate_command

        split_name = None if split is SplitChoice.ALL else split.value
        raise typer.Exit(
            evaluate_command(data, models_dir, out, split_name, super_resolve, precision, sr_cells, ood_images)
        )


@app.command()
def verify(
    labelled: Annotated[
        Path, typer.Argument(metavar="LABELLED", help="Class folders of cell images, or slides with differentials.csv.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where verification.html, verification.json and the figures go.")
    ],
    models_dir: ModelsDir = None,
    super_resolve: Annotated[
        SuperResolve, typer.Option(help="Which cells the generator enlarges.")
    ] = SuperResolve.AUTO,
) -> None:
    """Test whether the models fit this laboratory, on cells that it has labelled or slides that it has read.

    Exit codes: 0 they fit; 1 the data cannot be used; 3 they do not fit, are not shown to fit, or there is too little
    data. With slides, also those of `wbctool run`.
    Requires: pip install 'wbctool[evaluate]'.
    """
    with handle_errors():
        from wbctool.cli.verifying import verify_command

        raise typer.Exit(verify_command(labelled, out, models_dir, super_resolve))


@app.command()
def doctor(
    models_dir: ModelsDir = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show what this machine can do, and what to do about the rest."""
    with handle_errors():
        from wbctool.cli.saying import echo
        from wbctool.doctor import format_checks_json, format_checks_text, run_checks

        checks = run_checks(models_dir)
        echo(format_checks_json(checks) if as_json else format_checks_text(checks))
        raise typer.Exit(0 if all(check.ok for check in checks if check.needed) else 1)


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"wbctool {wbctool.__version__}")
        raise typer.Exit


@app.callback()
def handle_common_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """White-cell differentials from folders of blood smear images. Research use only."""
