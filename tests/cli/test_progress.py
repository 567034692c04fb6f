"""What a user at a terminal sees of a run."""

import io

from rich.console import Console
from rich.progress import Progress

from wbctool.cli.progress import BarProgress, NullProgress, format_slide_line
from wbctool.labels import CellClass
from wbctool.pipeline.plan import Action
from wbctool.report.csv_tables import empty_row
from wbctool.store.slide_outcome import SlideOutcome
from wbctool.types.results import SlideStatus


def test_bar_shows_the_progress_within_a_field_until_it_ends() -> None:
    progress = Progress(console=Console(file=io.StringIO()), auto_refresh=False)
    seen = []
    for _ in BarProgress(progress).track("abc", 3, "[odd]\n.jpg: tiles"):
        bar = progress.tasks[-1]
        seen.append((bar.description, bar.completed, bar.total))
    assert [counts for _, *counts in seen] == [[0, 3], [1, 3], [2, 3]]
    assert all("odd" in description and "\n" not in description for description, *_ in seen)
    assert [task.description for task in progress.tasks] == ["fields"]


def test_format_slide_line_ends_with_flags_that_need_attention_blasts_first() -> None:
    row = empty_row("leukemia-1", SlideStatus.OK, 56, tuple(CellClass), "unfamiliar;low_count;possible_blasts")
    line = format_slide_line(SlideOutcome("leukemia-1", SlideStatus.OK, row, ()), Action.PROCESS)
    assert line.endswith("0 not WBC; possible blasts, unfamiliar")


def test_quiet_progress_passes_items_on() -> None:
    assert list(NullProgress().track("abc", 3, "tiles")) == ["a", "b", "c"]
