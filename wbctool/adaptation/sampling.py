"""Choice of the cells that a reader names. Pure, and the same for the same results.

A third is drawn at random, so that it stands for the laboratory's cells: on these an adaptation is measured. The rest
are cells that teach a classifier most. These come from each predicted class in turn. Within the class the next cell is
the one with the largest product of three factors: how far it is from all cells chosen so far, how much the tool is in
doubt about it, and how few cells its slide has given. The distance is that of core-set selection (k-center, greedily).

Results hold no features of a network, and to compute them would need the models and every image. The space of the
distance is therefore made of what the results have: the square roots of the probabilities, whose Euclidean distance is
Hellinger's, the mean and the spread of the thumbnail's CIELAB colors, and the cell's size.

Of two cells with nearly the same thumbnail only one is chosen, so that the readers do not learn a cell and are measured
on its copy. Cells that were named before count as chosen: neither they nor their copies come again, and others are far
from them.

References:
    Sener, Savarese. Active Learning for Convolutional Neural Networks: A Core-Set Approach. ICLR 2018.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from wbctool.adaptation.candidates import DESCRIPTOR_PX, Candidate
from wbctool.adaptation.labels_file import ChosenCell, Purpose
from wbctool.adaptation.named_cells import CellIndex
from wbctool.labels import CellClass
from wbctool.types.cells import Reason

RANDOM_SHARE = 1 / 3
# Root mean square difference of two descriptors, in OpenCV's units of CIELAB. A cell cut again 2 pixels aside, from a
# JPEG saved again, differs by at most 4.7 from itself; the two most similar of 130 cells of three laboratories by 8.0.
NEAR_COPY_LAB = 6.0
_APPEARANCE_WEIGHT = 0.3  # of one standard deviation of a color or of the size; Hellinger's distance is at most √2
_LEAST_DOUBT = 0.2  # so that a cell that the tool is sure of can be chosen too
_UNFAMILIAR_REASONS = frozenset(
    {Reason.OUT_OF_DISTRIBUTION, Reason.UNFAMILIAR_SLIDE, Reason.POSSIBLE_BLAST, Reason.DISAGREEMENT}
)


def find_named(candidates: Sequence[Candidate], named: Iterable[ChosenCell]) -> list[int]:
    """Return the indices of the cells that were named before, by this run's boxes or by those of another."""
    index = CellIndex(named)
    return [i for i, c in enumerate(candidates) if index.holds(c.field_sha256, c.cell.detection.box)]


def choose_cells(
    candidates: Sequence[Candidate], n_cells: int, named: Sequence[int] = ()
) -> list[tuple[Candidate, Purpose]]:
    """Choose the cells of a page.

    Args:
        candidates: The cells to choose from.
        n_cells: How many to choose.
        named: The indices of those that were named before.

    Returns:
        The cells in the order of the page, which does not tell what a cell was chosen for; fewer than ``n_cells`` if
        there are fewer that differ.
    """
    copies = _NearCopies(candidates)
    for index in named:
        copies.add(index)
    n_random = round(min(n_cells, len(candidates) - len(named)) * RANDOM_SHARE)
    by_chance = sorted(range(len(candidates)), key=lambda index: _draw(candidates[index], "measure"))
    measuring = list[int]()
    for index in by_chance:
        if len(measuring) < n_random and not copies.is_copy[index]:
            measuring.append(index)
            copies.add(index)
    teaching = _choose_teaching(candidates, n_cells - len(measuring), copies, named) if candidates else []
    if len(measuring) + len(teaching) < n_cells:
        # There were copies. The first of the cells drawn are drawn at random too.
        n_random = round((len(measuring) + len(teaching)) * RANDOM_SHARE)
        measuring, teaching = measuring[:n_random], teaching + measuring[n_random:]
    chosen = [(index, Purpose.MEASURE) for index in measuring] + [(index, Purpose.TEACH) for index in teaching]
    chosen.sort(key=lambda choice: _draw(candidates[choice[0]], "order"))
    return [(candidates[index], purpose) for index, purpose in chosen]


def _draw(candidate: Candidate, salt: str) -> bytes:
    """Return a number drawn for a cell, the same wherever its field lies and whatever other cells there are."""
    box = candidate.cell.detection.box
    identity = f"{salt} {candidate.field_sha256} {box.x} {box.y} {box.width} {box.height} {candidate.cell.index}"
    return hashlib.sha256(identity.encode()).digest()


class _NearCopies:
    """Which candidates must not be chosen, because they are chosen or look like a cell that is.

    Attributes:
        is_copy: (n,) bool.
        descriptors: (n, values) uint8, zeros for a cell without.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.is_copy = np.zeros(len(candidates), bool)
        self._has_descriptor = np.array([c.descriptor is not None for c in candidates], bool)
        self.descriptors = np.zeros((len(candidates), DESCRIPTOR_PX * DESCRIPTOR_PX * 3), np.uint8)
        for index, candidate in enumerate(candidates):
            if candidate.descriptor is not None:
                self.descriptors[index] = candidate.descriptor.ravel()

    def add(self, index: int) -> None:
        """Note that a candidate is chosen."""
        self.is_copy[index] = True
        if self._has_descriptor[index]:
            difference = self.descriptors.astype(np.int16) - self.descriptors[index].astype(np.int16)
            is_near = np.sqrt(np.mean(np.square(difference, dtype=np.float32), axis=1)) < NEAR_COPY_LAB
            self.is_copy |= is_near & self._has_descriptor


def _choose_teaching(
    candidates: Sequence[Candidate], n_cells: int, copies: _NearCopies, named: Sequence[int]
) -> list[int]:
    """Choose the cells that teach most, by their index; those without a thumbnail are not among them."""
    points, doubts = _points(candidates, copies.descriptors), _doubts(candidates)
    labels = np.array([list(CellClass).index(c.cell.prediction.label) for c in candidates])
    slide_names = {name: number for number, name in enumerate(dict.fromkeys(c.slide for c in candidates))}
    slides = np.array([slide_names[c.slide] for c in candidates])
    is_free = ~copies.is_copy & np.array([c.descriptor is not None for c in candidates])
    distances = np.full(len(candidates), np.inf)
    for index in named:
        distances = np.minimum(distances, np.linalg.norm(points - points[index], axis=1))
    n_of_class, n_of_slide = np.zeros(len(CellClass)), np.zeros(len(slide_names))
    chosen = list[int]()
    while len(chosen) < n_cells and is_free.any():
        label = min(np.unique(labels[is_free]), key=lambda known: (n_of_class[known], known))
        scores = (distances if chosen or named else 1.0) * doubts / (1 + n_of_slide[slides])
        scores[~is_free | (labels != label)] = -1.0
        index = int(scores.argmax())
        chosen.append(index)
        n_of_class[label] += 1
        n_of_slide[slides[index]] += 1
        distances = np.minimum(distances, np.linalg.norm(points - points[index], axis=1))
        copies.add(index)
        is_free &= ~copies.is_copy
    return chosen


def _points(candidates: Sequence[Candidate], descriptors: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return each cell's place in the space of the distance, (n, dimensions)."""
    probabilities = np.sqrt(_with_rest(candidates))
    colors = descriptors.reshape(len(candidates), -1, 3).astype(np.float64)
    sizes = np.log2([[c.cell.detection.box.longer_side_px] for c in candidates])
    appearance = np.hstack([colors.mean(axis=1), colors.std(axis=1), sizes])
    spread = appearance.std(axis=0)
    scaled = (appearance - appearance.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return np.hstack([probabilities, _APPEARANCE_WEIGHT * scaled])


def _doubts(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """Return how much the tool is in doubt about each cell: by the lead of its first class, and whether it is odd."""
    ranked = np.sort(_with_rest(candidates), axis=1)
    lead = ranked[:, -1] - ranked[:, -2]
    is_unfamiliar = np.array([c.cell.prediction.reason in _UNFAMILIAR_REASONS for c in candidates])
    doubts: NDArray[np.float64] = _LEAST_DOUBT + (1 - lead) + is_unfamiliar
    return doubts


def _with_rest(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """Return the probabilities and, last, what they leave to kinds that are no class."""
    probabilities = np.array([c.probabilities for c in candidates])
    rest = np.clip(1 - probabilities.sum(axis=1, keepdims=True), 0, 1)
    return np.hstack([np.clip(probabilities, 0, 1), rest])
