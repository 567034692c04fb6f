"""Recipes read from TOML files, those of the package and a laboratory's own."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from wbctool.errors import SettingsInvalid, list_problems
from wbctool_training.recipe import Recipe

RECIPES_DIR = Path(__file__).parent / "recipes"
_RENAMED_KEYS = {
    "needs_start": "requires_init",
    "faint_threshold": "low_score_threshold",
    "warmup_samples": "pretrain_samples",
    "warmup_lr": "pretrain_lr",
    "clean": "ideal_degradation",
    "start_as_interpolation": "init_as_interpolation",
    "optimiser": "optimizer",
    "borrowed_stain_share": "stain_transfer_prob",
    "restained_share": "stain_jitter_prob",
}


def load_recipe(name_or_path: str) -> Recipe:
    """Load a recipe.

    Args:
        name_or_path: A name in RECIPES_DIR, or the path of a TOML file. With ``extends = "NAME"`` a file takes what
            it does not set from the recipe of that name in RECIPES_DIR.

    Raises:
        SettingsInvalid: There is no such recipe, or it is not valid; the message names file and key.
    """
    path = Path(name_or_path)
    if not path.suffix:
        path = RECIPES_DIR / f"{name_or_path}.toml"
    try:
        values = _read_toml(path)
        _check_renamed_keys(path, values)
        return Recipe.model_validate(values)
    except FileNotFoundError as error:
        raise SettingsInvalid(f"no recipe {name_or_path}: neither a file nor one of {_list_recipes()}") from error
    except ValidationError as error:
        problems = "; ".join(f"{location}: {cause}" for location, cause in list_problems(error))
        raise SettingsInvalid(f"{path}: {problems}") from error
    except OSError as error:
        raise SettingsInvalid(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{path}: {error}") from error


def _check_renamed_keys(path: Path, values: dict[str, Any]) -> None:
    """Raise SettingsInvalid, with the new names, if a recipe has keys of earlier versions."""
    sections = [("", values), *((f"{name}.", value) for name, value in values.items() if isinstance(value, dict))]
    renamed = [
        f"{prefix}{key} is now called {_RENAMED_KEYS[key]}"
        for prefix, section in sections
        for key in section
        if key in _RENAMED_KEYS
    ]
    if renamed:
        raise SettingsInvalid(f"{path}: {'; '.join(renamed)}")


def _read_toml(path: Path) -> dict[str, Any]:
    """Read a recipe and merge it into the one that it extends; without a name of its own, it has that of its file."""
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    if "extends" not in values:
        return values
    base = RECIPES_DIR / f"{values.pop('extends')}.toml"
    if not base.is_file():
        raise SettingsInvalid(f"{path}: extends {base.stem}: the recipes are {_list_recipes()}")
    merged = _read_toml(base)
    for key, value in ({"name": path.stem} | values).items():
        section = merged.get(key)
        merged[key] = {**section, **value} if isinstance(section, dict) and isinstance(value, dict) else value
    return merged


def _list_recipes() -> str:
    """Return the names of the recipes that come with the package."""
    return ", ".join(sorted(p.stem for p in RECIPES_DIR.glob("*.toml")))
