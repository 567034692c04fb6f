"""What makes a laboratory's own slides familiar: the colors of its fields."""

from wbctool.adaptation.familiarity import add_colors
from wbctool.inference.familiarity_rule import FamiliarityRule, OwnLaboratory
from wbctool.inference.loading import Cards
from wbctool.inference.model_card import (
    ClassifierCard,
    DetectorCard,
    GeneratorCard,
    default_models_dir,
    load_fp32_card,
)
from wbctool.stages.quality import color_distance
from wbctool.types.slides import FieldColors

BROWN = FieldColors(background=(60.0, 20.0, 40.0), cells=(30.0, 30.0, -10.0))


def _adapted_rule() -> FamiliarityRule:
    rule = load_fp32_card(default_models_dir(), ClassifierCard).familiarity
    assert rule is not None
    own = OwnLaboratory(cells_by_center=(3,), max_offset=1.0, max_training_distance=1.0)
    return rule.model_copy(update={"own_laboratory": own})


def _cards(rule: FamiliarityRule) -> Cards:
    folder = default_models_dir()
    classifier = load_fp32_card(folder, ClassifierCard).model_copy(update={"familiarity": rule})
    return Cards(load_fp32_card(folder, DetectorCard), load_fp32_card(folder, GeneratorCard), classifier)


def test_add_colors_makes_the_laboratorys_stain_one_that_the_models_know() -> None:
    before, after = (_cards(rule).stain_reference for rule in (_adapted_rule(), add_colors(_adapted_rule(), [BROWN])))
    distance = color_distance(BROWN, before)
    assert distance is not None
    assert distance > 20
    assert color_distance(BROWN, after) == 0
    assert after[:-1] == before == load_fp32_card(default_models_dir(), DetectorCard).stain_reference


def test_add_colors_without_a_background_changes_nothing() -> None:
    rule = add_colors(_adapted_rule(), [FieldColors(None, (30.0, 30.0, -10.0))])
    assert rule.own_laboratory == _adapted_rule().own_laboratory


def test_add_colors_to_a_rule_of_no_laboratory_changes_nothing() -> None:
    rule = load_fp32_card(default_models_dir(), ClassifierCard).familiarity
    assert rule is not None
    assert add_colors(rule, [BROWN]) is rule
