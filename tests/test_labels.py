import pytest

from wbctool.labels import (
    DIFFERENTIAL_CLASSES,
    CellClass,
    Subtype,
    parse_class,
    parse_kind,
    parse_subtype,
    parse_unknown_kind,
)


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


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("KSC", "smudge"),
        ("Smudge Cells", "smudge"),
        ("basket-cell", "smudge"),
        ("blasts", "blast"),
        ("MYO", "blast"),
        ("Lymphoblast", "blast"),
        ("LYA", "atypical_lymphocyte"),
        ("reactive lymphocytes", "atypical_lymphocyte"),
        ("promyelocyte_bilobed", "bilobed_promyelocyte"),
        ("PMB", "bilobed_promyelocyte"),
        ("promyelocyte", None),
        ("lymphocyte", None),
        ("rbc", None),
    ],
)
def test_parse_unknown_kind_maps_public_names_that_are_no_class(name, kind):
    assert parse_unknown_kind(name) == kind
    assert kind is None or parse_class(name) is None


@pytest.mark.parametrize("name", ["NGS", "NGB", "LYT", "MON", "EOS", "BAS", "MMZ", "MYB", "PMO", "EBO"])
def test_parse_class_knows_munichs_folders(name):
    assert parse_kind(name) is parse_class(name) is not None


@pytest.mark.parametrize(
    ("folder", "stem", "subtype"),
    [
        ("neutrophil", "BNE_100878", Subtype.BAND),
        ("neutrophil", "SNE_1", Subtype.SEGMENTED),
        ("ig", "MMY_1", Subtype.METAMYELOCYTE),
        ("ig", "MY_1", Subtype.MYELOCYTE),
        ("ig", "PMY_1", Subtype.PROMYELOCYTE),
        ("ig", "IG_1", None),
        ("neutrophil", "NEUTROPHIL_1", None),
        ("ig", "MY_cell", None),
        ("NGB", "NGB_0001", Subtype.BAND),
        ("Band", "1", Subtype.BAND),
        ("Promyelocytes", "1", Subtype.PROMYELOCYTE),
        ("PMB", "PMB_0001", None),
        ("MOB", "MOB_0001", Subtype.MONOBLAST),
    ],
)
def test_parse_subtype_reads_pbcs_file_names_and_munichs_folders(folder, stem, subtype):
    assert parse_subtype(folder, stem) is subtype
