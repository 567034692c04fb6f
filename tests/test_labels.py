import pytest

from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass, parse_class


def test_cell_classes_have_the_documented_order():
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


def test_is_leukocyte_holds_for_the_differential_classes():
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
def test_parse_class_maps_public_names(name, label):
    assert parse_class(name) is label
