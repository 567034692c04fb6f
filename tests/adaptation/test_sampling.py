import hashlib
import itertools
import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from wbctool.adaptation.candidates import DESCRIPTOR_PX, Candidate
from wbctool.adaptation.labels_file import ChosenCell, Purpose
from wbctool.adaptation.sampling import choose_cells, find_named
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


def test_cells_named_before_are_not_chosen_again_and_the_drawing_goes_on():
    cells = population(400)
    first = choose_cells(cells, 100)
    named = [cells.index(c) for c, _ in first]
    second = choose_cells(cells, 100, named)
    assert len(second) == 100
    assert not {c.row for c, _ in first} & {c.row for c, _ in second}
    assert len(rows(second, Purpose.MEASURE)) == 33


def test_copies_of_cells_named_before_are_not_chosen():
    cells = [candidate(i) for i in range(20)]
    copies = [replace(candidate(100 + cell.row), descriptor=cell.descriptor) for cell in cells]
    chosen = choose_cells(cells + copies, 40, range(5))
    assert {c.row % 100 for c, _ in chosen} == set(range(5, 20))


def test_teaching_cells_are_far_from_those_named_before():
    """Of two clusters in size and color, that of the cells named before is as good as known."""
    cells = []
    for number in range(80):
        base = candidate(number, side=30 if number < 40 else 120)
        noise = np.random.default_rng(number).integers(-25, 26, base.descriptor.shape)
        cells.append(replace(base, descriptor=((60 if number < 40 else 200) + noise).astype(np.uint8)))
    taught = [choose_cells(cells, 3, named) for named in (range(35), range(40, 75))]
    assert [min(rows(chosen, Purpose.TEACH)) >= 40 for chosen in taught] == [True, False]
    assert max(rows(taught[1], Purpose.TEACH)) < 40


@pytest.mark.parametrize(("shift", "is_same"), [(0, True), (8, True), (20, False)])
def test_cell_is_known_again_by_its_field_and_about_its_box(shift, is_same):
    cells = [candidate(1), candidate(2)]
    before = ChosenCell(
        slide="as it was called then", field="f.jpg", field_sha256=cells[1].field_sha256, cell=7,
        box=Box(9 + shift, 9, 40, 40), chosen=Purpose.TEACH,
    )  # fmt: skip
    assert find_named(cells, [before]) == ([1] if is_same else [])
