"""`wbctool verify`: a laboratory's acceptance test of the models."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wbctool.cli.errors import handle_errors
from wbctool.cli.options import AsJson, ModelsDir, ReadersChoice, SuperResolveMode
from wbctool.cli.output import check_writable, echo_error, echo_optional
from wbctool.cli.run import load_stages, stop_on_signals
from wbctool.enums import Readers, SuperResolve
from wbctool.errors import LabelledDataInvalid
from wbctool.exit_codes import ExitCode
from wbctool.optional import require_extra
from wbctool.text import display_name, encode_name, pluralize, replace_underscores

if TYPE_CHECKING:
    from wbctool.evaluation.proportion import Proportion
    from wbctool.pipeline.bound_stages import BoundStages
    from wbctool.settings import RunSettings
    from wbctool.types.results import ModelRef
    from wbctool.verification.cells import CellVerification
    from wbctool.verification.slides import SlideVerification

RUN_CSV = "run.csv"


def verify(
    labelled: Annotated[
        Path, typer.Argument(metavar="LABELED", help="Class folders of cell images, or slides with differentials.csv.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where verification.html, verification.json and the figures go.")
    ],
    models_dir: ModelsDir = None,
    readers: ReadersChoice = Readers.BOTH,
    super_resolve: SuperResolveMode = SuperResolve.AUTO,
    as_json: AsJson = False,
) -> None:
    """Test whether the models fit this laboratory, on cells that it has labeled or slides that it has read.

    Exit codes: 0 they fit; 1 the data cannot be used; 3 they do not fit, are not shown to fit, or there is too little
    data. With slides, also those of `wbctool run`.
    Requires: pip install 'wbctool[evaluate]'.
    """
    with handle_errors():
        raise typer.Exit(_verify_models(labelled, out, models_dir, readers, super_resolve, as_json))


def _verify_models(
    labelled: Path, out: Path, models_dir: Path | None, readers: Readers, mode: SuperResolve, as_json: bool
) -> int:
    """Verify, write the files, print the figures or the content of verification.json, and return the exit code."""
    with require_extra("evaluate", "`wbctool verify`"):
        from wbctool.verification.report import render_verification

    from wbctool.datasets.manual_differentials import find_differentials
    from wbctool.paths import VERIFICATION_HTML, VERIFICATION_JSON
    from wbctool.store.atomic_write import write_atomic
    from wbctool.verification.criteria import Conclusion

    if not labelled.is_dir():
        raise LabelledDataInvalid(f"{labelled} is not a folder")
    _check_folder(out)
    check_writable(out)
    result: CellVerification | SlideVerification
    table, unread = find_differentials(labelled)
    for name in unread:
        echo_error(f"{display_name(name)} is not read; save it as differentials.csv or differentials.xlsx")
    if table is not None:
        result, models = _verify_slides(labelled, table, out, models_dir, readers, mode, as_json)
    else:
        result, models = _verify_cells(labelled, models_dir, readers, mode)
    files = render_verification(labelled.resolve().name, result, models, mode.value)
    for name, content in files.items():
        write_atomic(out / name, content)
    if as_json:
        echo_optional(files[VERIFICATION_JSON].decode().removesuffix("\n"))
    else:
        for line in (*_format_result(result), *(display_name(note) for note in result.notes)):
            echo_optional(line)
        echo_optional(f"{display_name(str(out / VERIFICATION_HTML))} written")
        echo_optional(result.verdict.summary)
    return ExitCode.DONE if result.verdict.conclusion is Conclusion.FITS else ExitCode.NEEDS_ATTENTION


def _check_folder(out: Path) -> None:
    """Check that no file would be replaced that is not from a verification."""
    from wbctool.paths import VERIFICATION_FIGURES, VERIFICATION_HTML, VERIFICATION_JSON, VERIFICATION_SCHEMA
    from wbctool.store.ownership import FileKind, check_overwrite_folder, has_schema

    kind = FileKind("a result of `wbctool verify`", has_schema(VERIFICATION_SCHEMA))
    others = (VERIFICATION_HTML, *(f"{figure}.png" for figure in VERIFICATION_FIGURES))
    check_overwrite_folder(out, VERIFICATION_JSON, kind, others, "--out")


def _verify_cells(
    labelled: Path, models_dir: Path | None, readers: Readers, mode: SuperResolve
) -> tuple[CellVerification, tuple[ModelRef, ...]]:
    """Classify the laboratory's labeled cells."""
    import wbctool
    from wbctool.cli.progress import track_progress
    from wbctool.types.results import ModelRef
    from wbctool.verification.cells import verify_cells

    models = wbctool.load_models(models_dir, readers=readers)
    if models.device_message:
        echo_error(models.device_message)
    models_used = tuple(ModelRef(card.file, card.name, card.version, card.sha256) for card in models.cards)
    return verify_cells(labelled, models, mode, track_progress), models_used


def _verify_slides(
    labelled: Path, table: Path, out: Path, models_dir: Path | None, readers: Readers, mode: SuperResolve, as_json: bool
) -> tuple[SlideVerification, tuple[ModelRef, ...]]:
    """Run over the slides; the results stay in ``out``, so that a second verification need not process them again."""
    from wbctool.datasets.manual_differentials import read_differentials
    from wbctool.inference.model_card import ClassifierCard, CompactCard, default_models_dir, load_fp32_card
    from wbctool.notices import list_names
    from wbctool.paths import OutputPaths
    from wbctool.pipeline.discovery import find_slides
    from wbctool.settings import load_settings
    from wbctool.store.reader import read_published_slides
    from wbctool.types.results import PublishedSlide, SlideStatus
    from wbctool.verification.slides import compare_slides, find_learned_slides

    slides = find_slides(labelled, skip=[OutputPaths(out / RUN_CSV).folder], notify=lambda _: None)  # a run notifies
    manual = read_differentials(table, [slide.id for slide in slides])
    if not {slide.id for slide in slides} & manual.keys():
        raise LabelledDataInvalid(f"{table} names no slide of {labelled}; it names {list_names(list(manual))}")
    options = {
        "slides": labelled,
        "out": out / RUN_CSV,
        "models_dir": models_dir,
        "readers": readers,
        "super_resolve": mode,
    }
    models_used: list[ModelRef] = []

    def load_and_record(settings: RunSettings) -> BoundStages:
        stages = load_stages(settings)
        models_used.extend(stages.models.provenance.models)
        return stages

    _run_slides(load_settings(options), load_and_record, as_json)
    published = read_published_slides(OutputPaths(out / RUN_CSV))
    results = [slide.result for slide in published if isinstance(slide, PublishedSlide)]
    counted = {encode_name(r.slide): r.differential for r in results if r.status is not SlideStatus.FAILED}
    kind = CompactCard if readers is Readers.COMPACT else ClassifierCard
    card = load_fp32_card(models_dir or default_models_dir(), kind)
    images = {(slide.id, path.name): path for slide in slides for path in slide.fields}
    learned = find_learned_slides([result for result in results if result.slide in manual], images, card)
    verification = compare_slides(
        {encode_name(slide): row for slide, row in manual.items()}, counted, {encode_name(slide) for slide in learned}
    )
    return verification, tuple(models_used)


def _run_slides(settings: RunSettings, load_bound_stages: Callable[[RunSettings], BoundStages], as_json: bool) -> None:
    """Process the slides as `wbctool run` does; end the program if a signal stopped that."""
    from wbctool.cli.logging import configure_logging
    from wbctool.cli.progress import show_progress
    from wbctool.pipeline.executor import LocalExecutor
    from wbctool.pipeline.run import StopRequest, run_folder

    stop_request = StopRequest()
    with (
        configure_logging(settings.quiet, None),
        stop_on_signals(stop_request),
        show_progress(settings.quiet, settings.dry_run, as_json) as progress,
    ):
        executor = LocalExecutor(lambda: load_bound_stages(settings))
        run_folder(settings, executor, sys.argv, progress, stop_request)
    if stop_request.signal is not None:
        raise SystemExit(128 + stop_request.signal)


def _format_result(result: CellVerification | SlideVerification) -> list[str]:
    """Return the figures as lines for the terminal."""
    from wbctool.verification.cells import CellVerification

    return _format_cells(result) if isinstance(result, CellVerification) else _format_slides(result)


def _format_slides(result: SlideVerification) -> list[str]:
    """Return how tool and readers agree on whole slides."""
    sampling_note = (
        f"; {_format_share(result.within_sampling_error)} of their slide–class pairs differ by sampling alone"
        if result.within_sampling_error
        else ""
    )
    return [
        f"{pluralize(result.slides, 'slide')}, {result.complete_slides} with enough counted cells{sampling_note}",
        *(
            f"  {replace_underscores(row.label)}: tool minus reader {row.bias:+.2f} percentage points, "
            f"95 % limits of agreement {row.low:+.2f} to {row.high:+.2f}"
            for row in result.bland_altman
        ),
    ]


def _format_cells(result: CellVerification) -> list[str]:
    """Return how the tool agrees with the labels of cells."""
    exact = f"exact {result.agreement.exact_low:.1f} to {result.agreement.exact_high:.1f} %"
    by_group = f", by group {_format_interval(result.agreement)}" if result.n_groups < result.cells else ""
    lines = [
        f"{pluralize(result.cells, 'cell')} of {pluralize(result.n_groups, 'group')}",
        f"agreement: {_format_share(result.agreement)} ({exact}{by_group})",
    ]
    if result.kappa:
        lines.append(f"Cohen's kappa: {result.kappa.value:.3f} ({result.kappa.low:.3f} to {result.kappa.high:.3f})")
    lines.append(f"silent errors: {_format_with_interval(result.silent_errors)}")
    lines.append(f"decided without a reader: {_format_with_interval(result.auto_classified)}")
    if result.accuracy_auto:
        lines.append(f"  correct among those: {_format_with_interval(result.accuracy_auto)}")
    if result.missed:
        lines.append(f"not found by a run, though classified here: {pluralize(result.missed, 'cell')}")
    for label, share in result.recall_by_class.items():
        lines.append(f"  {replace_underscores(label)} found: {_format_with_interval(share)}")
    if (fit := result.calibration) is not None:
        lines.append(
            f"calibration error on {fit.measured_on} cells: {fit.error:.3f} as shipped, {fit.error_refitted:.3f} with "
            f"a temperature of {fit.temperature:.2f}, fitted to {fit.fitted_on} others"
        )
    return [*lines, "Bland–Altman needs slides with a reader's differential (differentials.csv)"]


def _format_with_interval(share: Proportion) -> str:
    """Return a proportion and its 95 % interval."""
    return f"{_format_share(share)} ({_format_interval(share)})"


def _format_share(share: Proportion) -> str:
    """Return a proportion as counts and percent."""
    return f"{share.n} of {share.total}, {share.percent:.1f} %"


def _format_interval(share: Proportion) -> str:
    """Return the 95 % interval of a proportion, in percent."""
    return f"{share.low:.1f} to {share.high:.1f} %"
