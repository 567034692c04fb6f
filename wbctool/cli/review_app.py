"""`wbctool review`: its commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wbctool.cli.guard import handle_errors

review_app = typer.Typer(help="Apply and check readers' reviews.", no_args_is_help=True)


@review_app.command("apply")
def apply_review(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The CSV given to run --out, or the folder beside it.")],
    reviews: Annotated[list[Path], typer.Argument(metavar="REVIEW...", help="A review.json saved by a report.")],
) -> None:
    """Apply readers' reviews: update the slides' tables and reports, keep the originals, extend the audit trail.

    Exit codes: 0 all applied; 1 some refused, the others applied; 2 wrong usage; 5 a run is using the output.
    """
    with handle_errors():
        from wbctool.cli.reviewing import apply_reviews_command

        raise typer.Exit(apply_reviews_command(out, reviews))


@review_app.command("verify")
def verify_review(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="The CSV given to run --out, or the folder beside it.")],
) -> None:
    """Check the audit trail, and every slide's results against the run and the trail.

    Exit codes: 0 all match; 1 otherwise.
    """
    with handle_errors():
        from wbctool.cli.reviewing import verify_reviews_command

        raise typer.Exit(verify_reviews_command(out))
