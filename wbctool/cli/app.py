"""The commands and their options. What a command needs is imported when it runs, so that ``--help`` is quick."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import wbctool
from wbctool.choices import Device, Precision, SuperResolve
from wbctool.cli.export_app import export_app
from wbctool.cli.guard import errors_as_exit_codes
from wbctool.cli.models_app import ModelsDir, models_app
from wbctool.cli.review_app import review_app
from wbctool.cli.train_app import train

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

    HELD_BACK = "held-back"
    VALIDATION = "validation"
    ALL = "all"


def main() -> None:
    """The entry point of the command `wbctool`."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a file's name may hold what the terminal's encoding does not
            reconfigure(errors="backslashreplace")
    try:
        app(prog_name="wbctool")
    except OSError as error:
        if not _stdout_fails():
            raise
        with suppress(OSError):
            print(f"wbctool: standard output cannot be written: {error.strerror or error}", file=sys.stderr)
        sys.exit(1)


def _stdout_fails() -> bool:
    """Whether standard output takes not even a line's end. If so, what it still holds is dropped."""
    try:
        print(flush=True)
        return False
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True


@app.command()
def run(
    slides: Annotated[Path, typer.Argument(metavar="SLIDES", help="Folder of slides; a slide is a folder of images.")],
    out: Annotated[
        Path, typer.Option(metavar="CSV", help="Table to write, x.csv; the folder x beside it takes the rest.")
    ],
    models_dir: ModelsDir = None,
    device: Annotated[Device | None, typer.Option(help="Default: auto.")] = None,
    super_resolve: Annotated[
        SuperResolve | None, typer.Option(help="Which cells the generator enlarges. Default: auto.")
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="Default: auto.")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Threads that work. Default: one a core.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="Cells named together on a GPU. Default: 64.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TOML file of settings; options given here win over it.")
    ] = None,
    force: Annotated[bool | None, typer.Option("--force", help="Do every slide again.")] = None,
    retry_failed: Annotated[
        bool | None, typer.Option("--retry-failed", help="Do slides again that failed, wholly or in part.")
    ] = None,
    settle_s: Annotated[
        float | None, typer.Option("--settle", metavar="SECONDS", help="Leave slides alone that changed so recently.")
    ] = None,
    follow_links: Annotated[
        bool | None, typer.Option("--follow-links", help="Follow links that lead out of SLIDES.")
    ] = None,
    max_failures: Annotated[
        int | None, typer.Option(metavar="N", help="Stop once N slides of this run have failed, wholly or in part.")
    ] = None,
    dry_run: Annotated[bool | None, typer.Option("--dry-run", help="Say what would be done; write nothing.")] = None,
    quiet: Annotated[bool | None, typer.Option("--quiet", help="Say nothing but errors.")] = None,
    log_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Log to a file, a JSON object a line.")] = None,
    metrics: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write metrics for Prometheus's textfile collector, x.prom.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Do the slides on this Dask scheduler's workers.")
    ] = None,
    adult: Annotated[
        bool | None,
        typer.Option("--adult", help="Slides whose age slides.csv does not say are of adults: show their ranges."),
    ] = None,
) -> None:
    """Count the white cells of every slide below SLIDES.

    Exit codes: 0 done; 1 nothing usable could be written; 2 wrong usage; 3 some slide is failed or partial; 4 no image;
    5 another run holds the output; 130, 143 stopped.
    """
    flags = {name: value for name, value in locals().items() if name != "config"}
    with errors_as_exit_codes():
        # NumPy reads it when it is first imported. BLAS threads that spin took an eighth of the time from the workers.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from wbctool.cli.running import run_command

        raise typer.Exit(run_command(flags, config))


@app.command()
def status(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The --out of a run, or the folder beside it.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    max_age: Annotated[
        float | None, typer.Option(metavar="HOURS", help="End with 1 if no run has ended for so long.")
    ] = None,
) -> None:
    """Say when the last run was, what it did, and what failed or waits.

    Exit codes: 1 if there was no run, the last one was killed, or none has ended for --max-age, be one going on or not;
    else 0 while a run is going on; else that of the last run (0 all is well, 3 some slide is failed or partial).
    """
    with errors_as_exit_codes():
        from wbctool.cli.running import status_command

        raise typer.Exit(status_command(out, as_json, max_age))


@app.command()
def qc(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The --out of a run, or the folder beside it.")],
    slide: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Only this QC slide; may be given often.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where the charts go; a folder beside OUT if none.")
    ] = None,
    baseline: Annotated[int, typer.Option(metavar="N", min=2, help="The first N values make mean and SD.")] = 20,
) -> None:
    """Draw Levey-Jennings charts of the QC slides over all runs, and judge the latest values by Westgard's rules.

    The setting qc_slides says which slides are QC slides. Exit codes: 0 in control; 3 a latest value breaks a rule that
    rejects, or is missing as nothing was counted; 1 there is no history.
    """
    with errors_as_exit_codes():
        from wbctool.cli.quality import qc_command

        raise typer.Exit(qc_command(out, slide or [], folder, baseline))


app.command()(train)


@app.command()
def evaluate(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Class folders of cells, or fields with boxes.")],
    models_dir: ModelsDir = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where figures and evaluation.json go.")] = None,
    split: Annotated[
        SplitChoice, typer.Option(help="Sources kept from training; those that choices are made by; all.")
    ] = SplitChoice.HELD_BACK,
    super_resolve: Annotated[
        SuperResolve, typer.Option(help="Which cells the generator enlarges.")
    ] = SuperResolve.AUTO,
    precision: Annotated[Precision, typer.Option(help="The models' arithmetic.")] = Precision.AUTO,
    sr_cells: Annotated[
        int, typer.Option(metavar="N", min=0, help="Cells of each data set that compare the generators; 0: none.")
    ] = 100,
    strangers: Annotated[
        int, typer.Option(metavar="N", min=0, help="Pictures of each kind that are no cell of a known class; 0: none.")
    ] = 100,
) -> None:
    """Measure the models on labelled data. Needs: pip install 'wbctool[evaluate]'."""
    with errors_as_exit_codes():
        from wbctool.cli.measuring import evaluate_command

        chosen = None if split is SplitChoice.ALL else split.value
        raise typer.Exit(evaluate_command(data, models_dir, out, chosen, super_resolve, precision, sr_cells, strangers))


@app.command()
def verify(
    labelled: Annotated[
        Path, typer.Argument(metavar="LABELLED", help="Class folders of cells, or slides with differentials.csv.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where verification.html, .json and the figures go.")],
    models_dir: ModelsDir = None,
    super_resolve: Annotated[
        SuperResolve, typer.Option(help="Which cells the generator enlarges.")
    ] = SuperResolve.AUTO,
) -> None:
    """Say whether the models fit this laboratory, from cells that it labelled itself or smears that it read itself.

    Exit codes: 0 they fit; 1 the data cannot be used; 3 they do not fit, are not shown to, or there is too little data;
    with slides also those of `wbctool run`.
    Needs the extra: pip install 'wbctool[evaluate]'.
    """
    with errors_as_exit_codes():
        from wbctool.cli.verifying import verify_command

        raise typer.Exit(verify_command(labelled, out, models_dir, super_resolve))


@app.command()
def doctor(
    models_dir: ModelsDir = None, as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> None:
    """Say what this machine can do, and what to do about the rest."""
    with errors_as_exit_codes():
        from wbctool.cli.saying import say
        from wbctool.doctor import as_text, examine, report_json

        checks = examine(models_dir)
        say(report_json(checks) if as_json else as_text(checks))
        raise typer.Exit(0 if all(check.ok for check in checks if check.needed) else 1)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"wbctool {wbctool.__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """White-cell differentials from folders of blood smear images. Research use only."""
