"""Drift: whether a laboratory's last slides are farther from what the models know than its first ones were.

Stain, lamp and camera wander slowly. No slide need be unfamiliar yet when the last ones already differ from the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean

from wbctool.paths import THUMBNAILS_ZIP, OutputPaths
from wbctool.store.slide_record import SlideRecord, find_slide_record

SLIDES_COMPARED = 20  # the first ones with the models of today, and the last ones
MAX_P = 1e-3  # small, because the slides are compared after every run


@dataclass(frozen=True, slots=True)
class Drift:
    """The familiarity of the last slides against the first.

    Attributes:
        slides: The number of slides that the models of today have measured.
        first_mean: The mean distance of the first ``SLIDES_COMPARED`` of these (wbctool.stages.familiarity).
        last_mean: The mean distance of the last ``SLIDES_COMPARED``.
        p: How probable so large a difference is by chance.
    """

    slides: int
    first_mean: float
    last_mean: float
    p: float

    @property
    def has_wandered(self) -> bool:
        """Whether the last slides are farther away than chance explains."""
        return self.p <= MAX_P

    @property
    def sentence(self) -> str:
        """What a laboratory must know, without a period."""
        return (
            f"the last {SLIDES_COMPARED} slides are less familiar to the models than the first {SLIDES_COMPARED} were "
            f"(mean distance {self.last_mean:.0f}, then {self.first_mean:.0f}); check stain, lamp and camera, and if "
            "they are to stay as they are, label some cells and adapt the models again"
        )


def find_drift(output: OutputPaths, slides: Iterable[str]) -> Drift | None:
    """Compare the last slides of results with the first, in order of their processing.

    Only slides that were measured with the same model as the last one count, since another model measures otherwise.

    Args:
        output: The results.
        slides: The slides' ids.

    Returns:
        The comparison; None with fewer than twice ``SLIDES_COMPARED`` slides.
    """
    measured: list[tuple[int, str, str, float]] = []
    for slide in slides:
        record = find_slide_record(output, slide)
        if record is None or record.familiarity is None or record.familiarity.mean_distance is None:
            continue
        with suppress(OSError):
            # the thumbnails are written as the slide is processed, not by a review, nor as it is rendered again
            processed = output.slide_file(slide, THUMBNAILS_ZIP).stat().st_mtime_ns
            measured.append((processed, slide, _name_models(record), record.familiarity.mean_distance))
    measured.sort()
    return compare_first_and_last([distance for *_, models, distance in measured if models == measured[-1][2]])


def compare_first_and_last(distances: Sequence[float]) -> Drift | None:
    """Compare the last of a series of slides with the first.

    Args:
        distances: The mean distance of each slide, in order.

    Returns:
        The comparison; None with fewer than twice ``SLIDES_COMPARED`` slides.

    References:
        Mann and Whitney 1947, doi 10.1214/aoms/1177730491.
    """
    if len(distances) < 2 * SLIDES_COMPARED:
        return None
    from scipy.stats import mannwhitneyu  # late: `wbctool status` need not wait for it before there are enough slides

    first, last = distances[:SLIDES_COMPARED], distances[-SLIDES_COMPARED:]
    p = float(mannwhitneyu(last, first, alternative="greater", method="asymptotic").pvalue)
    return Drift(len(distances), round(fmean(first), 1), round(fmean(last), 1), p)


def _name_models(record: SlideRecord) -> str:
    """Return the hashes of the models that made a slide's results."""
    return " ".join(model.sha256 for model in record.provenance.models)
