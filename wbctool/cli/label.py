"""`wbctool label`: a page on which a reader names cells of published results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wbctool.cli.errors import handle_errors
from wbctool.cli.options import Results, check_outside_results, parse_file
from wbctool.cli.output import echo_error, echo_optional
from wbctool.errors import ResultsInvalid, SettingsInvalid
from wbctool.exit_codes import ExitCode
from wbctool.text import display_name, pluralize

if TYPE_CHECKING:
    from wbctool.adaptation.candidates import CandidateCells
    from wbctool.paths import OutputPaths
    from wbctool.pipeline.run_slides import FieldImages


def label(
    out: Results,
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="LABELS", hidden=True)
    ] = None,  # of --without labels-*.json
    *,
    cells: Annotated[int, typer.Option(metavar="N", min=3, max=2000, help="How many cells the page asks for.")] = 100,
    to: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=parse_file, help="Page to write. Default: OUT-label.html beside the CSV."),
    ] = None,
    slides: Annotated[
        Path | None, typer.Option(metavar="SLIDES", help="Where the images are now. Default: where the run found them.")
    ] = None,
    without: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="LABELS",
            help="Labels that a page has saved (labels-*.json): their cells are not asked for again. More files can "
            "follow.",
        ),
    ] = None,
) -> None:
    """Write a page on which a reader names cells of the results.

    A third of the cells is drawn at random, the others are those that teach a classifier most. The page saves
    labels-<name of the results>.json. The same results give the same page; for other cells, say which are named already
    with --without.

    Exit codes: 0 done; 1 results missing or altered, or nothing could be written; 2 wrong usage; 3 done, but some slide
    has no results.
    """
    with handle_errors():
        if more and not without:
            raise SettingsInvalid(
                f"{more[0]} is one argument too many; labels that are to be left out go after --without"
            )
        raise typer.Exit(_write_page(out, cells, to, slides, [*(without or []), *(more or [])]))


def _write_page(out: Path, n_cells: int, to: Path | None, slides_dir: Path | None, without: list[Path]) -> int:
    """Write the page, print what is on it, and return the exit code."""
    from wbctool.adaptation.candidates import read_candidates
    from wbctool.adaptation.cell_images import make_cell_images
    from wbctool.adaptation.label_page import LABEL_PAGE_FILE, render_label_page
    from wbctool.adaptation.labels_file import Purpose, read_labels
    from wbctool.adaptation.sampling import choose_cells, find_named
    from wbctool.paths import OutputPaths
    from wbctool.store.atomic_write import write_through_link
    from wbctool.store.ownership import check_overwrite
    from wbctool.types.results import SlideStatus

    output = OutputPaths.from_path(out)
    path = to or output.export_path("label.html")
    check_outside_results(output, path)
    check_overwrite(path, LABEL_PAGE_FILE, "--to" if to else "")
    labels = {file: read_labels(file) for file in without}
    images = _find_images(output, slides_dir)
    candidates = read_candidates(output, images)
    _report_gaps(candidates)
    for file, content in labels.items():
        if not find_named(candidates.cells, content.cells):
            echo_error(f"{file}: none of its cells is in these results")
    named = find_named(candidates.cells, [cell for content in labels.values() for cell in content.cells])
    asked = choose_cells(candidates.cells, n_cells, named)
    if named and not asked:
        raise ResultsInvalid(f"{output.counts_csv}: every cell is named already, or looks the same as one that is")
    cell_images = make_cell_images(output, [candidate for candidate, _ in asked], images)
    chosen = [(cell, purpose) for cell, purpose in asked if (cell.slide, cell.row) in cell_images]
    if n_unreadable := len(asked) - len(chosen):
        echo_error(f"{pluralize(n_unreadable, 'cell')} left out: their images cannot be decoded")
    if not chosen:
        advice = "; name the folder of the images with --slides" if candidates.unshown else ""
        raise ResultsInvalid(f"{output.counts_csv} has no cell that can be shown{advice}")
    page = render_label_page(
        output.folder.name, chosen, cell_images, candidates.classes, candidates.cells_sha256
    ).encode()
    write_through_link(path, page)
    n_random = sum(purpose is Purpose.MEASURE for _, purpose in chosen)
    n_slides = len({candidate.slide for candidate, _ in chosen})
    echo_optional(
        f"{display_name(str(path))} written: {pluralize(len(chosen), 'cell')} of {pluralize(n_slides, 'slide')}, "
        f"{n_random} of them at random; {len(page) / 1e6:.1f} MB"
    )
    if named:
        echo_optional(f"{pluralize(len(named), 'cell')} left out: named before")
    if n_small := sum(not shown.from_field for shown in cell_images.values()):
        echo_error(
            f"{pluralize(n_small, 'cell')} shown as small as in the report: the images are not where the run analyzed "
            f"them, or have changed since; name their folder with --slides"
        )
    if len(asked) < n_cells:
        echo_error(
            f"there are no more than {pluralize(len(asked), 'cell')} to choose: the others look almost the same as "
            f"these{' or those named before' if named else ''}, or the results have no picture of them"
        )
    has_gaps = any(slide.status is not SlideStatus.WAITING for slide in candidates.skipped)
    return ExitCode.NEEDS_ATTENTION if has_gaps else ExitCode.DONE


def _report_gaps(candidates: CandidateCells) -> None:
    """Name the slides that are left out, and say how many cells cannot be shown."""
    for slide in candidates.skipped:
        echo_error(f"{slide.slide} is left out: {slide.reason}")
    if candidates.unshown:
        echo_error(
            f"{pluralize(candidates.unshown, 'cell')} cannot be shown: the results have no picture of them, and their "
            f"images are not those that the run analyzed. The cells at random are drawn from the others"
        )
    if candidates.of_scans:
        echo_error(f"{pluralize(candidates.of_scans, 'cell')} of whole-slide scans left out: they cannot teach yet")


def _find_images(output: OutputPaths, slides_dir: Path | None) -> FieldImages:
    """Return the fields' files; none if they are not where the run found them, which is an error only if asked for."""
    from wbctool.pipeline.run_slides import FieldImages

    try:
        return FieldImages.find(output, slides_dir)
    except ResultsInvalid:
        if slides_dir is not None:
            raise
        return FieldImages({})
