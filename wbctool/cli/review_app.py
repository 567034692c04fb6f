"""`wbctool review`: its commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wbctool.cli.guard import errors_as_exit_codes

review_app = typer.Typer(help="What readers changed in the reports.", no_args_is_help=True)


@review_app.command("apply")
def apply_review(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The --out of a run, or the folder beside it.")],
    reviews: Annotated[list[Path], typer.Argument(metavar="REVIEW...", help="review.json as a report saves it.")],
) -> None:
    """Apply readers' reviews: tables and report of their slides change, the originals stay, the audit trail grows.

    Exit codes: 0 all applied; 1 some refused, the others applied; 2 wrong usage; 5 a run holds the output.
    """
    with errors_as_exit_codes():
        from wbctool.cli.reviewing import apply_command

        raise typer.Exit(apply_command(out, reviews))


@review_app.command("verify")
def verify_review(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The --out of a run, or the folder beside it.")],
) -> None:
    """Check the audit trail, and that every slide's results are what the run and the trail say. Exit codes: 0, 1."""
    with errors_as_exit_codes():
        from wbctool.cli.reviewing import verify_command

        raise typer.Exit(verify_command(out))
