import pytest

from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass, parse_class


def test_order_is_the_contract():
    assert [c.value for c in CellClass] == [
        "neutrophil",
        "lymphocyte",
        "monocyte",
        "eosinophil",
        "basophil",
        "immature_granulocyte",
        "erythroblast",
        "platelet",
    ]
    assert tuple(CellClass)[:6] == DIFFERENTIAL_CLASSES


def test_leukocytes_are_the_differential():
    assert [c for c in CellClass if not c.is_leukocyte] == [CellClass.ERYTHROBLAST, CellClass.PLATELET]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("EOSINOPHIL", CellClass.EOSINOPHIL),
        ("neutrophils", CellClass.NEUTROPHIL),
        ("BNE", CellClass.NEUTROPHIL),
        ("ig", CellClass.IMMATURE_GRANULOCYTE),
        ("Immature-Granulocytes", CellClass.IMMATURE_GRANULOCYTE),
        ("NRBC", CellClass.ERYTHROBLAST),
        ("platelets", CellClass.PLATELET),
        ("rbc", None),
        ("", None),
    ],
)
def test_parse_class(name, label):
    assert parse_class(name) is label
