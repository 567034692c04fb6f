"""`wbctool adapt`: models of a laboratory's own, from cells that its readers have labeled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wbctool.cli.errors import handle_errors
from wbctool.cli.options import ModelsDir
from wbctool.cli.output import check_writable, echo_error, echo_optional
from wbctool.errors import SettingsInvalid
from wbctool.exit_codes import ExitCode
from wbctool.text import display_name, pluralize, replace_underscores

if TYPE_CHECKING:
    from wbctool.adaptation.adapt import Adaptation, MakeTuner
    from wbctool.adaptation.measure import Comparison, Refusal
    from wbctool.evaluation.proportion import Proportion


def adapt(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE",
            help="Class folders of cell images; results of `run`; labels-*.json, together with the results that they "
            "name. For cells without a label, the reviews count that were applied to the results.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the models and adaptation.html go.")],
    models_dir: ModelsDir = None,
    slides: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where slides of the results lie now. Others: where `run` found them."),
    ] = None,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep",
            help="Also fine-tune the last block of the first classifier; takes many times longer. "
            "Requires: pip install 'wbctool[train]'.",
        ),
    ] = False,
) -> None:
    """Adapt the classifiers to this laboratory, and measure what that is worth on cells they did not learn from.

    The models are written only if they are better than those that they come from.

    Exit codes: 0 written; 1 the data cannot be used; 2 wrong usage; 3 too few cells, or not better: nothing is written.
    """
    with handle_errors():
        raise typer.Exit(_adapt(sources, out, models_dir, slides, deep))


def _adapt(sources: list[Path], out: Path, models_dir: Path | None, slides: Path | None, deep: bool) -> int:
    """Adapt, print the figures, write the models if they are better, and return the exit code."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: on several threads small products take longer
    from wbctool.adaptation.adapt import Shortfall, adapt, find_start_models
    from wbctool.adaptation.report import check_adaptation_folder, write_adaptation_report
    from wbctool.adaptation.sources import read_sources
    from wbctool.adaptation.writer import write_adapted_models
    from wbctool.api import load_models
    from wbctool.cli.progress import track_progress
    from wbctool.enums import Precision
    from wbctool.inference.model_card import default_models_dir
    from wbctool.inference.model_folder import find_readers

    asked = models_dir or default_models_dir()
    folder = find_start_models(asked, default_models_dir())
    if out.resolve() == folder.resolve():
        raise SettingsInvalid(f"--out {out}: the models there are those to start from; name another folder")
    _check_other_reader(out, asked)
    check_adaptation_folder(out)
    check_writable(out)
    make_tuner = _import_tuner() if deep else None
    if folder != asked:
        echo_optional(
            f"{display_name(str(asked))} is adapted already: starting again from the shipped models; the cells that it "
            "learned from count only if they are given again"
        )
    models = load_models(folder, precision=Precision.FP32, readers=find_readers(asked))
    if models.device_message:
        echo_error(models.device_message)
    laboratory = read_sources(sources, models, slides, track_progress)
    adaptation = adapt(laboratory.cells, models, folder, track_progress, make_tuner)
    for note in (*laboratory.notes, *adaptation.notes):
        echo_optional(display_name(note))
    if isinstance(adaptation, Shortfall):
        echo_error(f"nothing is written: {adaptation.cause}")
        return ExitCode.NEEDS_ATTENTION
    for line in _format(adaptation):
        echo_optional(line)
    if (refusal := adaptation.comparison.refusal) is not None:
        echo_error(_describe_refusal(refusal, adaptation.comparison))
        if adaptation.doubtful:
            echo_optional(
                "look at the labels named above first: of cells of results, the numbers are the columns x and y of the "
                "slide's cells.csv; its report.html shows the cell in its field"
            )
        return ExitCode.NEEDS_ATTENTION
    write_adapted_models(adaptation, laboratory.cells, laboratory.labeled_by, folder, out)
    page = write_adaptation_report(adaptation, laboratory, out)
    echo_optional(f"{display_name(str(out))}: models written; {display_name(str(page))} says what they are worth")
    echo_optional("test them with `wbctool verify` on other cells, then give them to `wbctool run` with --models")
    return ExitCode.DONE


def _check_other_reader(out: Path, models_dir: Path) -> None:
    """Check that no reader stays in a folder that the models to adapt do not have: a run would use it too."""
    for reader in ("classifier", "compact"):
        if (out / f"{reader}.json").is_file() and not (models_dir / f"{reader}.json").is_file():
            raise SettingsInvalid(
                f"--out {out}: {reader}.json there is of a reader that {models_dir} does not have; name another folder"
            )


def _import_tuner() -> MakeTuner:
    """Import what tunes the last block, which needs torch; raise MissingDependency without it."""
    from wbctool.optional import require_extra

    with require_extra("train", "`wbctool adapt --deep`"):
        from wbctool_training.last_block import LastBlockTuner
    return LastBlockTuner


def _describe_refusal(refusal: Refusal, comparison: Comparison) -> str:
    """Return why an adaptation is not written, and what would help."""
    from wbctool.adaptation.measure import Refusal

    lost = ", ".join(map(replace_underscores, comparison.lost_classes))
    causes = {
        Refusal.NO_GAIN: "are right on no more labels, nor count more cells",
        Refusal.FEWER_COUNTED: "count fewer cells, and no fewer under a wrong class",
        Refusal.MAJORITY_CLASS: "are not surely better than naming every cell by the commonest class",
        Refusal.SILENT_ERRORS: "count more cells under a wrong class",
        Refusal.LOST_CLASS: f"are right on fewer cells of {lost}",
    }
    help_ = "name more cells of other classes, and look at the labels again"
    if refusal is not Refusal.MAJORITY_CLASS:
        help_ = "more labeled cells of more slides may change that"
    return f"nothing is written: on cells that they did not learn from, the adapted models {causes[refusal]}; {help_}"


def _format(adaptation: Adaptation) -> list[str]:
    """Return the figures as lines for the terminal."""
    comparison = adaptation.comparison
    before, after = comparison.before, comparison.after
    basis = "cells chosen at random" if adaptation.measured_at_random else "cells"
    lines = [
        f"measured on {comparison.cells} {basis} of {pluralize(comparison.groups, 'slide')}, each by readers that had "
        "not seen its slide:",
        f"  right: {_share(before.accuracy)} before, {_share(after.accuracy)} after",
        f"  counted: {_share(before.coverage)} before, {_share(after.coverage)} after",
        f"  silent errors: {_share(before.silent_errors)} before, {_share(after.silent_errors)} after; "
        f"{_share(comparison.silent_errors_at_equal_coverage)} before if as many cells were counted",
        f"  McNemar by slide: {comparison.test.wins} better, {comparison.test.losses} worse, p {comparison.test.p:.3g}",
    ]
    for label, recall in after.recall.items():
        lines.append(f"  {replace_underscores(label)}: {_share(before.recall[label])} before, {_share(recall)} after")
    if adaptation.doubtful:
        lines.append("labels that both readers contradict, for a second look:")
        lines += [
            f"  {display_name(cell.origin)}: labeled {cell.label}, looks like {label}"
            for cell, label in adaptation.doubtful
        ]
    return lines


def _share(share: Proportion) -> str:
    """Return a proportion with its 95 % interval."""
    return f"{share.n} of {share.total}, {share.percent:.1f} % ({share.low:.1f} to {share.high:.1f})"
