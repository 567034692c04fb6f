"""`wbctool models`: the cards of the trained models, their hashes, and what belongs to them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wbctool.cli.errors import handle_errors
from wbctool.cli.models_optimize import optimize
from wbctool.cli.options import AsJson, ModelsDir
from wbctool.cli.output import echo, echo_error, echo_optional
from wbctool.errors import WbctoolError
from wbctool.exit_codes import ExitCode
from wbctool.notices import list_names
from wbctool.text import display_name, pluralize, replace_underscores

if TYPE_CHECKING:
    from wbctool.inference.adaptation_info import AdaptationInfo
    from wbctool.inference.model_card import Card

_LISTED = ("kind", "name", "version", "precision", "file", "sha256", "classes", "adaptation")

models_app = typer.Typer(help="List, check and optimize the trained models.", no_args_is_help=True)


@models_app.command("list")
def list_models(models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """List the models, and the classes they know."""
    with handle_errors():
        from wbctool.inference.model_card import CellClassifierCard, default_models_dir
        from wbctool.inference.model_folder import list_cards

        folder = models_dir or default_models_dir()
        code, models = ExitCode.DONE, []
        for path, card in list_cards(folder):
            if isinstance(card, WbctoolError):
                echo_error(str(card))
                code = ExitCode.FATAL
                continue
            content = card.model_dump(mode="json", include=set(_LISTED), exclude={"adaptation": {"cell_sha256"}})
            models.append({"card": path.name, **content})
            if not as_json:
                name = card.name if card.name.startswith(card.kind) else f"{card.kind}: {card.name}"
                echo(f"{name} {card.version}, {card.precision.value}, {card.file}{_format_known(card)}")
                if isinstance(card, CellClassifierCard) and (learned := card.adaptation) is not None:
                    for line in _format_adaptation(learned):
                        echo(f"  {line}")
        if as_json:
            echo(json.dumps({"schema": "wbctool-models/1", "folder": str(folder), "models": models}, indent=1))
        raise typer.Exit(code)


@models_app.command("verify")
def check_hashes(models_dir: ModelsDir = None, as_json: AsJson = False) -> None:
    """Check each model against the hash in its card."""
    with handle_errors():
        from wbctool.inference.model_card import default_models_dir
        from wbctool.inference.model_folder import check_models

        folder = models_dir or default_models_dir()
        problems = {path.name: problem for path, problem in check_models(folder)}
        is_ok = not any(problems.values())
        if as_json:
            models = [{"card": name, "ok": problem is None, "problem": problem} for name, problem in problems.items()]
            content = {"schema": "wbctool-models-verify/1", "ok": is_ok, "folder": str(folder), "models": models}
            echo(json.dumps(content, indent=1))
        else:
            for name, problem in problems.items():
                echo(f"{name}: {problem or 'ok'}")
        raise typer.Exit(ExitCode.DONE if is_ok else ExitCode.FATAL)


def _format_adaptation(learned: AdaptationInfo) -> list[str]:
    """Return with what a classifier was adapted, and what that was worth."""
    from wbctool.inference.adaptation_info import AdaptationMethod

    by = f", labeled by {display_name(', '.join(learned.readers))}" if learned.readers else ""
    method = "" if learned.method is AdaptationMethod.DEFAULT else f" by the {learned.method} method"
    n_cells = len(learned.cell_sha256)
    labels = [f"{replace_underscores(label)} {n}" for label, n in learned.cells_by_label.items()]
    slides = [f"{display_name(slide)} {n}" for slide, n in learned.cells_by_group.items()]
    counts = {"label": labels, "slide": slides if learned.groups < n_cells else []}
    return [
        f"adapted{method} with {pluralize(n_cells, 'cell')} of {pluralize(learned.groups, 'slide')}{by}: "
        f"{learned.accuracy_after:.1%} right instead of {learned.accuracy_before:.1%}; from the model with SHA-256 "
        f"{learned.parent_sha256}",
        "cells by " + "; by ".join(f"{name}: {list_names(values)}" for name, values in counts.items() if values),
    ]


def _format_known(card: Card) -> str:
    """Return what a classifier tells apart; empty for another model."""
    from wbctool.inference.model_card import CellClassifierCard, CompactCard

    if not isinstance(card, CellClassifierCard):
        return ""
    subtypes = card.subtypes if isinstance(card, CompactCard) else ()
    known = {"classes": card.classes, "kinds that no class fits": card.unknown_kinds, "subtypes": subtypes}
    return "".join(f"; {name}: {', '.join(values)}" for name, values in known.items() if values)


models_app.command("optimize")(optimize)


@models_app.command("stain-reference")
def measure_stain_reference(
    data: Annotated[list[Path], typer.Argument(metavar="DATA", help="The fields that the detector was trained on.")],
    models_dir: ModelsDir = None,
) -> None:
    """Measure the colors of the training fields and record them in the detector's card."""
    with handle_errors():
        from wbctool.evaluation.stain_reference import measure_stain_reference
        from wbctool.inference.loading import load_model
        from wbctool.inference.model_card import DetectorCard, default_models_dir, kind_name
        from wbctool.inference.model_folder import encode_card
        from wbctool.store.atomic_write import write_through_link

        folder = models_dir or default_models_dir()
        model = load_model(folder, DetectorCard)
        stain_ranges = measure_stain_reference(data, model)
        card = model.card.model_copy(update={"stain_reference": stain_ranges})
        path = folder / f"{kind_name(DetectorCard)}.json"  # the card that was read, whatever its model is called
        write_through_link(path, encode_card(card))
        for entry in stain_ranges:
            low, high = entry.background_low, entry.background_high
            echo_optional(f"{entry.dataset}: {pluralize(entry.fields, 'field')}, background L*a*b* {low} to {high}")
        echo_optional(f"{display_name(str(path))} written")
