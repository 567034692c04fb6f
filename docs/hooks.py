"""Fill pages from the code, as a hook of mkdocs: typer's own pages, the settings' descriptions, the layers."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from wbctool.limits import Limits
from wbctool.settings import RunSettings

NOT_IN_FILE = ("slides", "out")
_BOUNDS = {"ge": "≥", "gt": ">", "le": "≤"}


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace the markers of a page by what is generated for them."""
    generators = {"command line": cli, "run": run_settings, "limits": limits, "layers": layers}
    for marker, generate in generators.items():
        place = f"<!-- generated: {marker} -->"
        if place in markdown:
            markdown = markdown.replace(place, generate())
    return markdown


def cli() -> str:
    """Return the reference of the command line, without a title."""
    command = [sys.executable, "-m", "typer", "wbctool.cli", "utils", "docs", "--name", "wbctool"]
    page = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout  # noqa: S603
    commands = re.compile(r"\*\*Commands\*\*:\n\n(?:\* .*\n)+")  # their help is cut short there
    return commands.sub("", page.partition("\n")[2])


def run_settings() -> str:
    """Return the table of the settings that say how a run works."""
    return _table((name, field) for name, field in _fields(RunSettings) if name not in Limits.model_fields)


def limits() -> str:
    """Return the table of the limits and reference ranges."""
    return _table(Limits.model_fields.items())


def layers() -> str:
    """Return the table of the layers that import-linter checks, the top one first."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    of_packages = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    rows = [[f"`{name.removeprefix('wbctool.')}`" for name in layer.split(" | ")] for layer in of_packages]
    lines = [f"| {number} | {', '.join(names)} |" for number, names in enumerate(rows, start=1)]
    return "\n".join(["| layer | packages and modules |", "|---|---|", *lines])


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the entries of the settings file that a model has itself."""
    for name, field in model.model_fields.items():
        if name not in NOT_IN_FILE and field.annotation is not Limits:
            yield name, field


def _table(fields: Iterable[tuple[str, FieldInfo]]) -> str:
    """Return one row for each setting."""
    rows = [f"| `{name}` | {_default(field)} | {_allowed(field)} | {field.description} |" for name, field in fields]
    return "\n".join(["| setting | default | allowed | meaning |", "|---|---|---|---|", *rows])


def _default(field: FieldInfo) -> str:
    """Return the default as TOML has it; ranges in words; empty if there is none or it depends on the machine."""
    if field.default_factory is None:
        return "" if field.default is None else f"`{_toml(field.default)}`"
    value = field.get_default(call_default_factory=True)
    if not isinstance(value, dict):
        return ""
    return ", ".join(f"{label} {low:g} to {high:g}" for label, (low, high) in value.items())


def _toml(value: Any) -> str:
    """Return a value as TOML has it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return f"{value:g}" if isinstance(value, float) else str(list(value)) if isinstance(value, tuple) else str(value)


def _allowed(field: FieldInfo) -> str:
    """Return the choices or the bounds of a setting; empty if it has none."""
    if field.annotation is bool:
        return "`true`, `false`"
    if isinstance(field.annotation, type) and issubclass(field.annotation, Enum):
        return ", ".join(f"`{_toml(choice.value)}`" for choice in field.annotation)
    bounds = ((sign, getattr(rule, name, None)) for rule in field.metadata for name, sign in _BOUNDS.items())
    return ", ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
