"""`wbctool verify`: the figures on the terminal, and the files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from wbctool.cli.measuring import check_writable
from wbctool.cli.measuring import track_progress as measured_progress
from wbctool.cli.running import load_stages, stop_on_signals
from wbctool.cli.saying import echo_optional
from wbctool.cli.terminal import configure_logging, show_progress
from wbctool.datasets.manual_differentials import find_differentials, read_differentials
from wbctool.enums import Device, Precision, SuperResolve
from wbctool.errors import LabelledDataInvalid
from wbctool.inference.loading import load_models
from wbctool.inference.model_card import default_models_dir
from wbctool.optional import require_extra
from wbctool.paths import VERIFICATION_HTML, OutputPaths
from wbctool.pipeline.bound_stages import BoundStages
from wbctool.pipeline.run import ExitCode, StopRequest, run_folder
from wbctool.settings import RunSettings, load_settings
from wbctool.store.atomic_write import write_atomic
from wbctool.store.reader import read_published_slides
from wbctool.text import display_name, encode_name, pluralize
from wbctool.types.results import ModelRef, PublishedSlide, SlideStatus
from wbctool.verification.agreement import Proportion
from wbctool.verification.cells import CellVerification, verify_cells
from wbctool.verification.criteria import Conclusion
from wbctool.verification.slides import SlideVerification, compare_slides

RUN_CSV = "run.csv"


def verify_command(labelled: Path, out: Path, models_dir: Path | None, mode: SuperResolve) -> int:
    """`wbctool verify`; returns the exit code."""
    with require_extra("evaluate", "`wbctool verify`"):
        from wbctool.verification.report import render_verification
    if not labelled.is_dir():
        raise LabelledDataInvalid(f"{labelled} is not a folder")
    check_writable(out)
    result: CellVerification | SlideVerification
    if (table := find_differentials(labelled)) is not None:
        result, models = _verify_slides(labelled, table, out, models_dir, mode)
    else:
        result, models = _verify_cells(labelled, models_dir, mode)
    for name, content in render_verification(labelled.resolve().name, result, models, mode.value).items():
        write_atomic(out / name, content)
    for line in (*_format_result(result), *(display_name(note) for note in result.notes)):
        echo_optional(line)
    echo_optional(f"{display_name(str(out / VERIFICATION_HTML))} written")
    echo_optional(result.verdict.summary)
    return ExitCode.DONE if result.verdict.conclusion is Conclusion.FITS else ExitCode.SLIDES_FAILED


def _verify_cells(
    labelled: Path, models_dir: Path | None, mode: SuperResolve
) -> tuple[CellVerification, tuple[ModelRef, ...]]:
    models = load_models(models_dir or default_models_dir(), Device.AUTO, Precision.AUTO)
    if models.device_message:
        echo_optional(f"wbctool: {models.device_message}")
    cards = [model.card for model in (models.detector, models.generator, models.classifier)]
    models_used = tuple(ModelRef(card.file, card.name, card.version, card.sha256) for card in cards)
    return verify_cells(labelled, models, mode, measured_progress), models_used


def _verify_slides(
    labelled: Path, table: Path, out: Path, models_dir: Path | None, mode: SuperResolve
) -> tuple[SlideVerification, tuple[ModelRef, ...]]:
    """The slides through a run of their own, whose results stay in DIR: a second verification finds them done."""
    manual = read_differentials(table)
    flags = {"slides": labelled, "out": out / RUN_CSV, "models_dir": models_dir, "super_resolve": mode}
    models_used: list[ModelRef] = []

    def load_and_record(settings: RunSettings) -> BoundStages:
        stages = load_stages(settings)
        models_used.extend(stages.provenance.models)
        return stages

    _execute(load_settings(flags), load_and_record)
    published = [one for one in read_published_slides(OutputPaths(out / RUN_CSV)) if isinstance(one, PublishedSlide)]
    results = [one.result for one in published if one.result.status is not SlideStatus.FAILED]
    counted = {encode_name(result.slide): result.differential for result in results}
    return compare_slides({encode_name(slide): row for slide, row in manual.items()}, counted), tuple(models_used)


def _execute(settings: RunSettings, load_bound_stages: Callable[[RunSettings], BoundStages]) -> None:
    stop_request = StopRequest()
    with (
        configure_logging(settings.quiet, None),
        stop_on_signals(stop_request),
        show_progress(settings.quiet, settings.dry_run) as progress,
    ):
        run_folder(settings, lambda: load_bound_stages(settings), sys.argv, progress, stop_request)
    if stop_request.signal is not None:
        raise SystemExit(128 + stop_request.signal)


def _format_result(result: CellVerification | SlideVerification) -> list[str]:
    if isinstance(result, SlideVerification):
        sampling_note = (
            f"; {_format_share(result.within_sampling_error)} of their slide–class pairs differ by sampling alone"
            if result.within_sampling_error
            else ""
        )
        return [
            f"{pluralize(result.slides, 'slide')}, {result.complete_slides} with enough counted cells{sampling_note}",
            *(
                f"  {one.label.replace('_', ' ')}: tool minus reader {one.bias:+.2f} percentage points, "
                f"95 % limits of agreement {one.low:+.2f} to {one.high:+.2f}"
                for one in result.bland_altman
            ),
        ]
    exact = f"exact {result.agreement.exact_low:.1f} to {result.agreement.exact_high:.1f} %"
    by_source = f", by source {_format_interval(result.agreement)}" if result.n_groups < result.cells else ""
    lines = [
        f"{pluralize(result.cells, 'cell')} of {pluralize(result.n_groups, 'source')}",
        f"agreement: {_format_share(result.agreement)} ({exact}{by_source})",
    ]
    if result.kappa:
        lines.append(f"Cohen's kappa: {result.kappa.value:.3f} ({result.kappa.low:.3f} to {result.kappa.high:.3f})")
    lines.append(
        f"decided without a reader: {_format_share(result.auto_classified)} ({_format_interval(result.auto_classified)})"
    )
    if result.accuracy_auto:
        lines.append(
            f"  correct among those: {_format_share(result.accuracy_auto)} ({_format_interval(result.accuracy_auto)})"
        )
    for label, share in result.recall_by_class.items():
        lines.append(f"  {label.replace('_', ' ')} found: {_format_share(share)} ({_format_interval(share)})")
    if (fit := result.calibration) is not None:
        lines.append(
            f"calibration error on {fit.measured_on} cells: {fit.error:.3f} with the shipped temperature "
            f"{fit.temperature:.3f}, {fit.error_refitted:.3f} with {fit.temperature_refitted:.3f}, fitted to "
            f"{fit.fitted_on} others"
        )
    return [*lines, "Bland–Altman needs slides with a reader's differential (differentials.csv)"]


def _format_share(share: Proportion) -> str:
    return f"{share.n} of {share.total}, {share.percent:.1f} %"


def _format_interval(share: Proportion) -> str:
    return f"{share.low:.1f} to {share.high:.1f} %"
