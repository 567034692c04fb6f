"""The cell classes, their order, finer and unknown kinds, and the names that public datasets give them."""

from __future__ import annotations

import re
from enum import StrEnum


class CellClass(StrEnum):
    """A class of cell. Every table that wbctool writes has this order."""

    NEUTROPHIL = "neutrophil"
    LYMPHOCYTE = "lymphocyte"
    MONOCYTE = "monocyte"
    EOSINOPHIL = "eosinophil"
    BASOPHIL = "basophil"
    IMMATURE_GRANULOCYTE = "immature_granulocyte"
    ERYTHROBLAST = "erythroblast"
    PLATELET = "platelet"

    @property
    def is_leukocyte(self) -> bool:
        """Whether cells of this class belong to the denominator of the differential."""
        return self in DIFFERENTIAL_CLASSES


DIFFERENTIAL_CLASSES: tuple[CellClass, ...] = (
    CellClass.NEUTROPHIL,
    CellClass.LYMPHOCYTE,
    CellClass.MONOCYTE,
    CellClass.EOSINOPHIL,
    CellClass.BASOPHIL,
    CellClass.IMMATURE_GRANULOCYTE,
)


class Subtype(StrEnum):
    """A finer kind of cell within a class, or within the unknown kind ``blast``."""

    BAND = "band"
    SEGMENTED = "segmented"
    METAMYELOCYTE = "metamyelocyte"
    MYELOCYTE = "myelocyte"
    PROMYELOCYTE = "promyelocyte"
    MONOBLAST = "monoblast"
    MYELOBLAST = "myeloblast"

    @property
    def label(self) -> CellClass | None:
        """The class that the kind belongs to; None if no class fits."""
        if self in {Subtype.BAND, Subtype.SEGMENTED}:
            return CellClass.NEUTROPHIL
        if self in {Subtype.METAMYELOCYTE, Subtype.MYELOCYTE, Subtype.PROMYELOCYTE}:
            return CellClass.IMMATURE_GRANULOCYTE
        return None


SUBTYPES_BY_CLASS: dict[CellClass, tuple[Subtype, ...]] = {
    label: tuple(subtype for subtype in Subtype if subtype.label is label)
    for label in (CellClass.NEUTROPHIL, CellClass.IMMATURE_GRANULOCYTE)
}
"""The finer kinds of each class that has some."""


class UnknownKind(StrEnum):
    """A kind of cell that no class fits. Labels may name further ones."""

    BLAST = "blast"
    ATYPICAL_LYMPHOCYTE = "atypical_lymphocyte"
    BILOBED_PROMYELOCYTE = "bilobed_promyelocyte"
    SMUDGE = "smudge"


# The names of folders in Kaggle's "blood-cells", PBC (Acevedo 2020), Raabin-WBC, LISC and Munich's AML-Cytomorphology
# (Matek 2019), and of PBC's file prefixes.
_SYNONYMS: dict[str, CellClass] = {
    "neut": CellClass.NEUTROPHIL,
    "ne": CellClass.NEUTROPHIL,
    "bne": CellClass.NEUTROPHIL,
    "sne": CellClass.NEUTROPHIL,
    "segmented": CellClass.NEUTROPHIL,
    "band": CellClass.NEUTROPHIL,
    "ly": CellClass.LYMPHOCYTE,
    "lymp": CellClass.LYMPHOCYTE,
    "lympho": CellClass.LYMPHOCYTE,
    "mo": CellClass.MONOCYTE,
    "mono": CellClass.MONOCYTE,
    "eo": CellClass.EOSINOPHIL,
    "eosi": CellClass.EOSINOPHIL,
    "eosino": CellClass.EOSINOPHIL,
    "ba": CellClass.BASOPHIL,
    "baso": CellClass.BASOPHIL,
    "ig": CellClass.IMMATURE_GRANULOCYTE,
    "mmy": CellClass.IMMATURE_GRANULOCYTE,
    "my": CellClass.IMMATURE_GRANULOCYTE,
    "pmy": CellClass.IMMATURE_GRANULOCYTE,
    "metamyelocyte": CellClass.IMMATURE_GRANULOCYTE,
    "myelocyte": CellClass.IMMATURE_GRANULOCYTE,
    "promyelocyte": CellClass.IMMATURE_GRANULOCYTE,
    "erb": CellClass.ERYTHROBLAST,
    "nrbc": CellClass.ERYTHROBLAST,
    "normoblast": CellClass.ERYTHROBLAST,
    "plt": CellClass.PLATELET,
    "thrombocyte": CellClass.PLATELET,
    "ngs": CellClass.NEUTROPHIL,
    "ngb": CellClass.NEUTROPHIL,
    "lyt": CellClass.LYMPHOCYTE,
    "mon": CellClass.MONOCYTE,
    "eos": CellClass.EOSINOPHIL,
    "bas": CellClass.BASOPHIL,
    "mmz": CellClass.IMMATURE_GRANULOCYTE,
    "myb": CellClass.IMMATURE_GRANULOCYTE,
    "pmo": CellClass.IMMATURE_GRANULOCYTE,
    "ebo": CellClass.ERYTHROBLAST,
}

_SUBTYPE_SYNONYMS: dict[str, Subtype] = {
    "bne": Subtype.BAND,
    "ngb": Subtype.BAND,
    "sne": Subtype.SEGMENTED,
    "ngs": Subtype.SEGMENTED,
    "mmy": Subtype.METAMYELOCYTE,
    "mmz": Subtype.METAMYELOCYTE,
    "my": Subtype.MYELOCYTE,
    "myb": Subtype.MYELOCYTE,
    "pmy": Subtype.PROMYELOCYTE,
    "pmo": Subtype.PROMYELOCYTE,
    "mob": Subtype.MONOBLAST,
    "myo": Subtype.MYELOBLAST,
}
_PBC_FILE = re.compile(r"(BNE|SNE|MMY|MY|PMY)_\d+$")

_UNKNOWN_KIND_SYNONYMS: dict[str, UnknownKind] = {
    "mob": UnknownKind.BLAST,
    "myo": UnknownKind.BLAST,
    "monoblast": UnknownKind.BLAST,
    "myeloblast": UnknownKind.BLAST,
    "lymphoblast": UnknownKind.BLAST,
    "lya": UnknownKind.ATYPICAL_LYMPHOCYTE,
    "lymphocyte_atypical": UnknownKind.ATYPICAL_LYMPHOCYTE,
    "reactive_lymphocyte": UnknownKind.ATYPICAL_LYMPHOCYTE,
    "variant_lymphocyte": UnknownKind.ATYPICAL_LYMPHOCYTE,
    "pmb": UnknownKind.BILOBED_PROMYELOCYTE,
    "promyelocyte_bilobed": UnknownKind.BILOBED_PROMYELOCYTE,
    "ksc": UnknownKind.SMUDGE,
    "smudge_cell": UnknownKind.SMUDGE,
    "basket_cell": UnknownKind.SMUDGE,
}


def parse_class(name: str) -> CellClass | None:
    """Return the class that a public dataset means by a name.

    Args:
        name: The name, in any case, with or without a plural s, with any of space, hyphen and underscore as separator.

    Returns:
        The class; None if the name means none of the classes.

    >>> parse_class("EOSINOPHIL")
    <CellClass.EOSINOPHIL: 'eosinophil'>
    >>> parse_class("Immature Granulocytes") is CellClass.IMMATURE_GRANULOCYTE
    True
    >>> parse_class("rbc") is None
    True
    """
    for candidate in _candidate_keys(name):
        if candidate in _SYNONYMS:
            return _SYNONYMS[candidate]
        if candidate in CellClass._value2member_map_:
            return CellClass(candidate)
    return None


def parse_unknown_kind(name: str) -> UnknownKind | None:
    """Return the kind without a class that a public dataset means by a name.

    Args:
        name: The name, written in any of the ways that :func:`parse_class` takes.

    Returns:
        The kind; None if the name means none of them, such as the name of a class.

    >>> parse_unknown_kind("Smudge cells")
    <UnknownKind.SMUDGE: 'smudge'>
    >>> parse_unknown_kind("lymphocyte") is None
    True
    """
    for candidate in _candidate_keys(name):
        if candidate in _UNKNOWN_KIND_SYNONYMS:
            return _UNKNOWN_KIND_SYNONYMS[candidate]
        if candidate in UnknownKind._value2member_map_:
            return UnknownKind(candidate)
    return None


def parse_kind(label: str) -> CellClass | str:
    """Return the class that a label means; else the unknown kind; else the label as it is, in lower case.

    >>> parse_kind("BNE"), parse_kind("myeloblast"), parse_kind("Plasma cell")
    (<CellClass.NEUTROPHIL: 'neutrophil'>, <UnknownKind.BLAST: 'blast'>, 'plasma_cell')
    """
    return parse_class(label) or parse_unknown_kind(label) or _candidate_keys(label)[0]


def parse_subtype(folder: str, stem: str) -> Subtype | None:
    """Return the finer kind that a public dataset names in an image's path.

    Args:
        folder: Name of the folder, as in Munich's AML-Cytomorphology (``NGB``), or a finer kind's own name.
        stem: Name of the file without its ending, as in PBC (``BNE_100878``).

    Returns:
        The finer kind; None if neither names one.

    >>> parse_subtype("neutrophil", "BNE_100878")
    <Subtype.BAND: 'band'>
    >>> parse_subtype("MMZ", "MMZ_0001")
    <Subtype.METAMYELOCYTE: 'metamyelocyte'>
    >>> parse_subtype("ig", "IG_1") is None
    True
    """
    if pbc := _PBC_FILE.match(stem):
        return _SUBTYPE_SYNONYMS[pbc[1].lower()]
    for candidate in _candidate_keys(folder):
        if candidate in _SUBTYPE_SYNONYMS:
            return _SUBTYPE_SYNONYMS[candidate]
        if candidate in Subtype._value2member_map_:
            return Subtype(candidate)
    return None


def _candidate_keys(name: str) -> tuple[str, str]:
    """Return the keys under which a name may be listed: as it is, and without a plural s."""
    key = name.strip().lower().replace(" ", "_").replace("-", "_")
    return key, key.removesuffix("s")
