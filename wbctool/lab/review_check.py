"""`wbctool review verify`: do the audit trail and the results of an output still say the same?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from wbctool.batch import trail
from wbctool.batch.runstate import SlideState, read_state
from wbctool.batch.slide_files import file_hashes, render_files
from wbctool.batch.slides import is_results
from wbctool.batch.trail import Entry
from wbctool.errors import ReviewRefused, TrailBroken
from wbctool.lab.rebuild import FILES, read_original, reviewed_result
from wbctool.layout import CELLS, SLIDE, OutputLayout
from wbctool.report.tables import counts_row


@dataclass(frozen=True, slots=True)
class Verification:
    """slides, reviewed: numbers of them. last: the hash of the trail's last line; worth noting down elsewhere."""

    slides: int
    reviewed: int
    entries: int
    last: str
    problems: tuple[str, ...]


def verify_reviews(layout: OutputLayout) -> Verification:
    """Check the chain, and that each slide's files are what the run wrote and what the trail makes of it.

    Raises ReviewRefused where there are no results.
    """
    if not is_results(layout.folder):
        raise ReviewRefused(f"{layout.folder} holds no results of a run")
    try:
        entries = trail.read_trail(layout)
    except TrailBroken as error:
        return Verification(0, 0, 0, "", (str(error),))
    states = dict(_states(layout))
    problems = [problem for slide, state in states.items() for problem in _problems(layout, slide, state, entries)]
    gone = sorted({entry.slide for entry in entries} - states.keys())
    problems += [f"slide {slide!r}: its results are gone, of which the trail speaks" for slide in gone]
    return Verification(
        slides=len(states),
        reviewed=sum(bool(state.reviews) for state in states.values()),
        entries=len(entries),
        last=entries[-1].sha256 if entries else "",
        problems=tuple(problems),
    )


def _states(layout: OutputLayout) -> Iterator[tuple[str, SlideState]]:
    for path in sorted(layout.folder.rglob(SLIDE)):
        with suppress(OSError, ValueError, KeyError, TypeError):
            slide = str(json.loads(path.read_bytes())["slide"])
            if layout.slide_file(slide, SLIDE) == path and (state := read_state(layout, slide)):
                yield slide, state


def _problems(layout: OutputLayout, slide: str, state: SlideState, entries: Sequence[Entry]) -> Iterator[str]:
    files = {name: layout.slide_file(slide, name) for name in FILES}
    content = {name: path.read_bytes() for name, path in files.items() if path.is_file()}
    found = file_hashes(content)
    yield from (
        f"slide {slide!r}: {name} is not what slide.json vouches for"
        for name in FILES
        if found.get(name) != state.files.get(name)
    )
    of_slide = [entry for entry in entries if entry.slide == slide and entry.event != trail.CELL]
    named = [review.entry for review in state.reviews]
    if of_slide and of_slide[-1].event == trail.REVIEW and of_slide[-1].sha256 not in named:
        yield f"slide {slide!r}: line {of_slide[-1].number} of the trail is a review that the results do not show"
    if missing := set(named) - {entry.sha256 for entry in of_slide}:
        yield f"slide {slide!r}: reviewed, but the trail does not hold {len(missing)} of its reviews"
    elif state.reviews:
        first = next(entry for entry in of_slide if entry.sha256 == named[0])
        yield from _differences(layout, slide, state, entries, str(first.content["results"]), content)


def _differences(
    layout: OutputLayout,
    slide: str,
    state: SlideState,
    entries: Sequence[Entry],
    reviewed: str,
    content: dict[str, bytes],
) -> Iterator[str]:
    """Where a slide's files are not what its originals and the trail give. reviewed: the hash of the cells.csv seen."""
    try:
        original = read_original(layout, slide, state)
        result = reviewed_result(original, state.reviews, entries)
    except ReviewRefused as error:
        yield str(error)
        return
    if original.state.files[CELLS] != reviewed:
        yield f"slide {slide!r}: the original {CELLS} is not the one that was reviewed"
    wanted = render_files(result, state.provenance)
    yield from (
        f"slide {slide!r}: {name} is not what the original and the trail give"
        for name in FILES
        if content.get(name) != wanted[name]
    )
    if state.row != counts_row(result):
        yield f"slide {slide!r}: the counts in slide.json are not what the original and the trail give"
