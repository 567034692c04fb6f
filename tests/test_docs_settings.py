"""docs/settings.md names every setting, with the value it has if nothing is said."""

import re
import tomllib
from pathlib import Path

import pytest

from wbctool.settings import _COMMAND_LINE_ONLY, RunSettings, load_settings

TEXT = (Path(__file__).parents[1] / "docs" / "settings.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1:4] for line in TEXT.splitlines() if line.startswith("| `")]
SAID = {name: value.strip() for names, value, _ in ROWS for name in re.findall(r"`(\w+)`", names)}


def test_every_setting_is_there_and_no_other() -> None:
    assert SAID.keys() == RunSettings.model_fields.keys() - _COMMAND_LINE_ONLY


@pytest.mark.parametrize(
    "name", [n for n, f in RunSettings.model_fields.items() if isinstance(f.default, (int, float))]
)
def test_a_number_is_the_one_in_the_code(name: str) -> None:
    names = next(re.findall(r"`(\w+)`", row[0]) for row in ROWS if f"`{name}`" in row[0])
    values = [value.strip(" `") for value in SAID[name].split(",")]
    said = values[names.index(name)] if len(values) > 1 else values[0]
    default = RunSettings.model_fields[name].default
    assert said == str(default).lower() if isinstance(default, bool) else float(said) == default


def test_the_ranges_are_the_ones_in_the_code() -> None:
    for name in ("reference_ranges", "absolute_ranges"):
        for label, (low, high) in RunSettings.model_fields[name].get_default(call_default_factory=True).items():
            assert f"{label} {low:g} to {high:g}" in SAID[name]


def test_the_example_is_taken(tmp_path: Path) -> None:
    example = re.search(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    assert example
    assert tomllib.loads(example[1])
    (tmp_path / "settings.toml").write_text(example[1], encoding="utf-8")
    found = load_settings({"slides": tmp_path, "out": tmp_path / "x.csv"}, tmp_path / "settings.toml")
    assert (found.settle_s, found.limited_count_below, found.qc_slides) == (60, 400, ("qc/*",))
