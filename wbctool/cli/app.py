"""The command line, assembled from the modules of its commands.

What a command needs is imported when it runs, so that `wbctool --help` is quick.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import wbctool
from wbctool.cli.adapt import adapt
from wbctool.cli.calibrate import calibrate
from wbctool.cli.doctor import doctor
from wbctool.cli.evaluate import evaluate
from wbctool.cli.export import export_app
from wbctool.cli.label import label
from wbctool.cli.models import models_app
from wbctool.cli.output import echo_error
from wbctool.cli.qc import qc
from wbctool.cli.review import review_app
from wbctool.cli.run import run
from wbctool.cli.status import status
from wbctool.cli.train import train
from wbctool.cli.verify import verify
from wbctool.exit_codes import ExitCode
from wbctool.former_names import describe_former_arguments


class _Group(TyperGroup):
    """The commands; a wrong value is refused in the words of the check, without its class's name before them."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        """Call the command."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            error.message = error.message.removeprefix("Value error, ")
            raise


app = typer.Typer(
    cls=_Group,
    help="White-cell differentials from folders of blood smear images. Research use only.",
    no_args_is_help=True,
    rich_markup_mode=None,  # formatted help would double the time that `wbctool --help` takes
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (run, status, qc, label, adapt, train, calibrate, evaluate, verify, doctor):
    app.command()(command)
app.add_typer(models_app, name="models")
app.add_typer(export_app, name="export")
app.add_typer(review_app, name="review")


def main() -> None:
    """Run the command `wbctool`."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:  # a file's name may hold characters that the terminal's encoding lacks
            reconfigure(errors="backslashreplace")
    if problem := _find_argument_problem(sys.argv[1:]):
        echo_error(problem)
        sys.exit(ExitCode.USAGE)
    try:
        app(prog_name="wbctool")
    except OSError as error:
        if not _drop_broken_stdout():
            raise
        with suppress(OSError):
            echo_error(f"standard output cannot be written: {error.strerror or error}")
        sys.exit(ExitCode.FATAL)


def _find_argument_problem(arguments: Sequence[str]) -> str:
    """Return what is wrong with the arguments before any command looks at them; empty if nothing is."""
    if any(not argument or re.fullmatch("--[^=]*=", argument) for argument in arguments):
        # As a path it would be the folder that cron starts in.
        return "an argument is empty; is a variable of the script unset?"
    return describe_former_arguments(arguments)


def _drop_broken_stdout() -> bool:
    """Send standard output to the null device if it takes not even a newline, and return whether that was so."""
    try:
        print(flush=True)
        return False
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True


def _show_version(value: bool) -> None:
    """Print the version and end."""
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
