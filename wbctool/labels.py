"""The cell classes, their order, and the names that public datasets give them."""

from __future__ import annotations

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

# The names of folders in Kaggle's "blood-cells", PBC (Acevedo 2020), Raabin-WBC and LISC, and of PBC's file prefixes.
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
    key = name.strip().lower().replace(" ", "_").replace("-", "_")
    for candidate in (key, key.removesuffix("s")):
        if candidate in _SYNONYMS:
            return _SYNONYMS[candidate]
        if candidate in CellClass._value2member_map_:
            return CellClass(candidate)
    return None
