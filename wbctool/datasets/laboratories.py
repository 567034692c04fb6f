"""Datasets of one laboratory, and those that no model was trained on."""

from __future__ import annotations

import re
from collections.abc import Sequence

from scipy.cluster.hierarchy import DisjointSet

from wbctool.datasets.labelled import HasGroup, HasPath
from wbctool.inference.training_info import TrainingInfo

# Names of public images, without their endings: they tell a copy in a folder of another name. TXL-PBC's are UUIDs.
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_BCCD = r"BloodImage_\d+|_\d+_\d+"
_PUBLIC_NAMES = {
    "bccd_fields": re.compile(_BCCD),
    "bccd_kaggle": re.compile(_BCCD),
    "pbc": re.compile(rf"(BNE|SNE|NEUTROPHIL|LY|MO|EO|BA|IG|MMY|MY|PMY|ERB|PLATELET)_\d+|{_UUID}"),
    "raabin": re.compile(_UUID),
    "lmu": re.compile(r"(BAS|EBO|EOS|KSC|LYA|LYT|MMZ|MOB|MON|MYB|MYO|NGB|NGS|PMB|PMO)_\d{4}(_.*)?"),
}


def find_laboratories(items: Sequence[HasGroup]) -> dict[str, str]:
    """Group datasets into laboratories: two datasets that share a group come from one laboratory.

    Args:
        items: Images, fields or cells.

    Returns:
        Each dataset's laboratory, which is named after the alphabetically first of its datasets.
    """
    disjoint_sets = DisjointSet(sorted({item.dataset for item in items}))
    first_dataset: dict[str, str] = {}
    for item in items:
        disjoint_sets.merge(item.dataset, first_dataset.setdefault(item.group, item.dataset))
    return {dataset: min(subset) for subset in disjoint_sets.subsets() for dataset in subset}


def find_unseen_datasets(items: Sequence[HasPath], trainings: Sequence[TrainingInfo]) -> frozenset[str]:
    """Find the datasets of which no model was trained or calibrated on any image.

    Args:
        items: Images or fields.
        trainings: ``training`` of each model's card.

    Returns:
        The datasets that no card names. Left out are datasets that share a group with one that a card names, and those
        with an image that has the file name of a public one that a card names; without this, a copy of training images
        in another folder would count as unseen. Empty if a card does not say what its model was trained on.
    """
    if any(training.datasets is None for training in trainings):
        return frozenset()
    trained = {name for training in trainings for name in (*(training.datasets or ()), *training.calibrated_on)}
    patterns = [pattern for name, pattern in _PUBLIC_NAMES.items() if name in trained]
    laboratories = find_laboratories(items)
    seen = {
        laboratories[item.dataset]
        for item in items
        if item.dataset in trained or any(pattern.fullmatch(item.path.stem) for pattern in patterns)
    }
    return frozenset(dataset for dataset, laboratory in laboratories.items() if laboratory not in seen)
