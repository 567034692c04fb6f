"""`wbctool verify`: the figures on the terminal, and the files."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from wbctool.batch.publish import publish
from wbctool.batch.results import published_slides
from wbctool.batch.run import ExitCode, StopRequest, run_folder
from wbctool.batch.stages import Stages
from wbctool.cards import default_models_dir
from wbctool.choices import Device, Precision, SuperResolve
from wbctool.cli.measuring import check_writable
from wbctool.cli.measuring import shown_progress as measured_progress
from wbctool.cli.running import load_stages, stopping_on_signals
from wbctool.cli.saying import mention
from wbctool.cli.terminal import logging_set_up, shown_progress
from wbctool.errors import LabelledDataInvalid
from wbctool.extras import needing
from wbctool.lab.agreement import Share
from wbctool.lab.differentials import FILE, read_differentials
from wbctool.lab.verdict import Fit
from wbctool.lab.verify import CellVerification, SlideVerification, compare_slides, verify_cells
from wbctool.layout import VERIFICATION_PAGE, OutputLayout, name_as_text, name_shown
from wbctool.models import load_models
from wbctool.settings import RunSettings, load_settings
from wbctool.slide_results import ModelUsed, PublishedSlide, SlideStatus
from wbctool.wording import number_of

RUN = "run.csv"


def verify_command(labelled: Path, out: Path, models_dir: Path | None, mode: SuperResolve) -> int:
    """`wbctool verify`; returns the exit code."""
    with needing("evaluate", "`wbctool verify`"):
        from wbctool.lab.verify_report import verification_files
    if not labelled.is_dir():
        raise LabelledDataInvalid(f"{labelled} is not a folder")
    check_writable(out)
    result: CellVerification | SlideVerification
    if (labelled / FILE).is_file():
        result, models = _verify_slides(labelled, out, models_dir, mode)
    else:
        result, models = _verify_cells(labelled, models_dir, mode)
    for name, content in verification_files(labelled.resolve().name, result, models, mode.value).items():
        publish(out / name, content)
    for line in (*_lines(result), *(name_shown(note) for note in result.notes)):
        mention(line)
    mention(f"{name_shown(str(out / VERIFICATION_PAGE))} written")
    mention(result.verdict.line)
    return ExitCode.DONE if result.verdict.fit is Fit.FITS else ExitCode.SLIDES_FAILED


def _verify_cells(
    labelled: Path, models_dir: Path | None, mode: SuperResolve
) -> tuple[CellVerification, tuple[ModelUsed, ...]]:
    models = load_models(models_dir or default_models_dir(), Device.AUTO, Precision.AUTO)
    if models.device_note:
        mention(f"wbctool: {models.device_note}")
    cards = [model.card for model in (models.detector, models.generator, models.classifier)]
    used = tuple(ModelUsed(card.file, card.name, card.version, card.sha256) for card in cards)
    return verify_cells(labelled, models, mode, measured_progress), used


def _verify_slides(
    labelled: Path, out: Path, models_dir: Path | None, mode: SuperResolve
) -> tuple[SlideVerification, tuple[ModelUsed, ...]]:
    """The slides through a run of their own, whose results stay in DIR: a second verification finds them done."""
    read = read_differentials(labelled / FILE)
    flags = {"slides": labelled, "out": out / RUN, "models_dir": models_dir, "super_resolve": mode}
    used: list[ModelUsed] = []

    def load(settings: RunSettings) -> Stages:
        stages = load_stages(settings)
        used.extend(stages.provenance.models)
        return stages

    _run(load_settings(flags), load)
    published = [one for one in published_slides(OutputLayout(out / RUN)) if isinstance(one, PublishedSlide)]
    results = [one.result for one in published if one.result.status is not SlideStatus.FAILED]
    counted = {name_as_text(result.slide): result.differential for result in results}
    return compare_slides({name_as_text(slide): row for slide, row in read.items()}, counted), tuple(used)


def _run(settings: RunSettings, load: Callable[[RunSettings], Stages]) -> None:
    stop = StopRequest()
    with (
        logging_set_up(settings.quiet, None),
        stopping_on_signals(stop),
        shown_progress(settings.quiet, settings.dry_run) as progress,
    ):
        run_folder(settings, lambda: load(settings), sys.argv, progress, stop)
    if stop.signal is not None:
        raise SystemExit(128 + stop.signal)


def _lines(result: CellVerification | SlideVerification) -> list[str]:
    if isinstance(result, SlideVerification):
        same = f"; {_share(result.same)} of their slide–class pairs differ by sampling alone" if result.same else ""
        return [
            f"{number_of(result.slides, 'slide')}, {result.full} with enough counted cells{same}",
            *(
                f"  {one.label.replace('_', ' ')}: tool minus reader {one.bias:+.2f} percentage points, "
                f"95 % limits of agreement {one.low:+.2f} to {one.high:+.2f}"
                for one in result.bland_altman
            ),
        ]
    exact = f"exact {result.agreement.exact_low:.1f} to {result.agreement.exact_high:.1f} %"
    by_source = f", by source {_bounds(result.agreement)}" if result.sources < result.cells else ""
    lines = [
        f"{number_of(result.cells, 'cell')} of {number_of(result.sources, 'source')}",
        f"agreement: {_share(result.agreement)} ({exact}{by_source})",
    ]
    if result.kappa:
        lines.append(f"Cohen's kappa: {result.kappa.value:.3f} ({result.kappa.low:.3f} to {result.kappa.high:.3f})")
    lines.append(f"decided without a reader: {_share(result.decided)} ({_bounds(result.decided)})")
    if result.right_among_decided:
        lines.append(
            f"  correct among those: {_share(result.right_among_decided)} ({_bounds(result.right_among_decided)})"
        )
    for label, share in result.found.items():
        lines.append(f"  {label.replace('_', ' ')} found: {_share(share)} ({_bounds(share)})")
    if (fit := result.calibration) is not None:
        lines.append(
            f"calibration error on {fit.measured_on} cells: {fit.error:.3f} with the shipped temperature "
            f"{fit.temperature:.3f}, {fit.error_refitted:.3f} with {fit.temperature_refitted:.3f}, fitted to "
            f"{fit.fitted_on} others"
        )
    return [*lines, "Bland–Altman needs slides with a reader's differential (differentials.csv)"]


def _share(share: Share) -> str:
    return f"{share.n} of {share.total}, {share.percent:.1f} %"


def _bounds(share: Share) -> str:
    return f"{share.low:.1f} to {share.high:.1f} %"
