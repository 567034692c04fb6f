import hashlib
import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from wbctool.adaptation.candidates import DESCRIPTOR_PX, Candidate
from wbctool.adaptation.labels_file import Purpose
from wbctool.adaptation.sampling import choose_cells
from wbctool.labels import CellClass
from wbctool.types.cells import Box, Cell, Detection, Outcome, Prediction, Reason

CLASSES = tuple(CellClass)


def candidate(number: int, label=CellClass.NEUTROPHIL, share=0.9, slide="s1", reason=Reason.NONE, side=40) -> Candidate:
    """Return a cell in a field of its own, whose picture is noise of its own."""
    rest = (1 - share) / (len(CLASSES) - 1)
    probabilities = tuple(share if known is label else rest for known in CLASSES)
    outcome = Outcome.NEEDS_REVIEW if reason else Outcome.COUNTED
    prediction = Prediction(label, share, probabilities, math.nan, outcome, reason)
    cell = Cell(f"f{number}.jpg", 1, Detection(Box(9, 9, side, side), 0.9), False, prediction)
    noise = np.random.default_rng(number).integers(0, 256, (DESCRIPTOR_PX, DESCRIPTOR_PX, 3), np.uint8)
    return Candidate(slide, number, cell, probabilities, hashlib.sha256(b"%d" % number).hexdigest(), noise)


def population(n_cells: int) -> list[Candidate]:
    """Return cells as a laboratory has them: most of them neutrophils that the tool is sure of, on three slides."""
    labels = [CLASSES[0]] * 14 + [CLASSES[1]] * 4 + [CLASSES[2], CLASSES[3]]
    return [
        candidate(i, labels[i % len(labels)], 0.5 if i % 7 == 0 else 0.97, slide=f"s{i % 3}") for i in range(n_cells)
    ]


def rows(chosen, purpose: Purpose) -> list[int]:
    return [candidate.row for candidate, own in chosen if own is purpose]


@pytest.mark.parametrize(("n_cells", "n_random"), [(100, 33), (12, 4), (3, 1)])
def test_a_third_is_random_and_no_cell_comes_twice(n_cells, n_random):
    chosen = choose_cells(population(400), n_cells)
    assert len(rows(chosen, Purpose.MEASURE)) == n_random
    assert len({candidate.row for candidate, _ in chosen}) == n_cells


def test_same_cells_give_same_choice_and_order():
    cells = population(300)
    assert choose_cells(cells, 50) == choose_cells(cells, 50)


def test_random_cells_follow_the_population():
    chosen = choose_cells(population(2000), 600)
    labels = Counter(c.cell.prediction.label for c, purpose in chosen if purpose is Purpose.MEASURE)
    expected = 200 * 14 / 20
    assert abs(labels[CellClass.NEUTROPHIL] - expected) < 3 * math.sqrt(expected * 6 / 20)


def test_random_cells_do_not_depend_on_what_the_tool_said():
    cells = population(300)
    others = [replace(c, probabilities=(0.125,) * 8) for c in cells]
    assert rows(choose_cells(cells, 60), Purpose.MEASURE) == rows(choose_cells(others, 60), Purpose.MEASURE)


def test_order_does_not_tell_the_purpose():
    purposes = [purpose for _, purpose in choose_cells(population(400), 90)]
    first_half = sum(purpose is Purpose.MEASURE for purpose in purposes[:45])
    assert 8 <= first_half <= 22  # of 30
    changes = sum(a is not b for a, b in itertools.pairwise(purposes))
    assert changes > 20


def test_teaching_cells_are_of_each_predicted_class_alike():
    chosen = choose_cells(population(2000), 120)
    labels = Counter(c.cell.prediction.label for c, purpose in chosen if purpose is Purpose.TEACH)
    assert sorted(labels.values()) == [20, 20, 20, 20]


def test_rare_class_is_taken_as_far_as_it_goes():
    cells = [candidate(i) for i in range(50)] + [candidate(50 + i, CellClass.BASOPHIL) for i in range(2)]
    chosen = choose_cells(cells, 30)
    assert sum(c.cell.prediction.label is CellClass.BASOPHIL for c, _ in chosen) == 2


def test_teaching_cells_are_of_all_slides():
    cells = [candidate(i, slide="large" if i < 300 else f"small{i % 3}") for i in range(312)]
    chosen = choose_cells(cells, 30)
    slides = Counter(c.slide for c, purpose in chosen if purpose is Purpose.TEACH)
    assert min(slides[f"small{i}"] for i in range(3)) >= 2


@pytest.mark.parametrize(("share", "reason"), [(0.4, Reason.NONE), (0.99, Reason.OUT_OF_DISTRIBUTION)])
def test_doubtful_cells_are_preferred(share, reason):
    sure = [candidate(i, share=0.99) for i in range(60)]
    doubtful = [candidate(60 + i, share=share, reason=reason) for i in range(20)]
    taught = rows(choose_cells(sure + doubtful, 15), Purpose.TEACH)
    assert sum(row >= 60 for row in taught) >= 8  # a fourth of the cells, most of the choice


def test_teaching_cells_are_far_apart():
    """Of three clusters in size and color, none is left out."""
    cells = []
    for number in range(120):
        cluster = 0 if number < 100 else 1 if number < 110 else 2
        base = candidate(number, side=(30, 60, 120)[cluster])
        level = (40, 120, 210)[cluster]
        noise = np.random.default_rng(number).integers(-25, 26, base.descriptor.shape)
        cells.append(replace(base, descriptor=(level + noise).astype(np.uint8)))
    taught = rows(choose_cells(cells, 12), Purpose.TEACH)
    assert {0 if row < 100 else 1 if row < 110 else 2 for row in taught} == {0, 1, 2}


def test_near_copies_are_not_chosen():
    cells = [candidate(i) for i in range(20)]
    copies = []
    for cell in cells:
        brighter = np.clip(cell.descriptor.astype(int) + 2, 0, 255).astype(np.uint8)
        copies.append(replace(candidate(100 + cell.row), descriptor=brighter))
    chosen = choose_cells(cells + copies, 40)
    assert len(chosen) == 20
    assert len({c.row % 100 for c, _ in chosen}) == 20
    assert len(rows(chosen, Purpose.MEASURE)) == 7  # a third of what there is, not of what was asked for


def test_cell_without_thumbnail_measures_but_does_not_teach():
    cells = [replace(candidate(i), descriptor=None) if i % 2 else candidate(i) for i in range(40)]
    chosen = choose_cells(cells, 18)
    assert any(row % 2 for row in rows(chosen, Purpose.MEASURE))
    assert not any(row % 2 for row in rows(chosen, Purpose.TEACH))


def test_fewer_cells_than_asked_for_are_all_chosen():
    chosen = choose_cells(population(9), 100)
    assert len(chosen) == 9
    assert len(rows(chosen, Purpose.MEASURE)) == 3


def test_no_cells_give_no_choice():
    assert choose_cells([], 10) == []
