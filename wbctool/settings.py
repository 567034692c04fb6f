"""The settings of a run, from options of the command line and an optional TOML file, validated once."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from wbctool.enums import Device, Precision, Readers, SuperResolve
from wbctool.errors import SettingsInvalid, list_problems
from wbctool.former_names import SETTINGS, describe_renames
from wbctool.hardware import usable_cores
from wbctool.limits import Limits, SettingsModel
from wbctool.paths import LABORATORY_TABLES, WORKBOOK_SUFFIX, has_usable_stem

_MAX_WORKERS = 64
_OPTION_NAMES = {"models_dir": "--models", "settle_s": "--settle", "cells_per_scan": "--cells", "slides": "SLIDES"}
_COMMAND_LINE_ONLY = {"slides", "out"}
_NOT_IN_RANGE = {"int_parsing", "int_type", "int_from_float", "greater_than_equal", "less_than_equal"}
_PATHS = ("models_dir", "log_file", "metrics")


def _default_workers() -> int:
    """Return one worker a core, up to the limit."""
    return min(usable_cores(), _MAX_WORKERS)


class RunSettings(SettingsModel):
    """Everything that `wbctool run` was asked for.

    Each field has a description, from which docs/reference/settings.md is generated. A settings file has the entries
    of ``limits`` at its top level.
    """

    slides: Path = Field(description="Folder of slides.")
    out: Path = Field(
        description="The table of all slides, x.csv, or x.xlsx for a workbook beside it; the other results go into the "
        "folder x beside it."
    )
    models_dir: Path | None = Field(None, description="Folder of models: `--models`. Default: the shipped models.")
    device: Device = Field(Device.AUTO, description="Where the models run: `--device`.")
    super_resolve: SuperResolve = Field(
        SuperResolve.AUTO, description="Which cells the generator enlarges: `--super-resolve`."
    )
    precision: Precision = Field(Precision.AUTO, description="Precision of the models: `--precision`.")
    readers: Readers = Field(Readers.BOTH, description="Which networks classify the cells: `--readers`.")
    workers: int = Field(
        default_factory=_default_workers,
        ge=1,
        le=_MAX_WORKERS,
        description="Worker threads: `--workers`. Default: one per core.",
    )
    batch_size: int = Field(64, ge=1, le=4096, description="Cells classified together on a GPU: `--batch-size`.")
    force: bool = Field(False, description="Process every slide again: `--force`.")
    retry_failed: bool = Field(False, description="Process failed and partial slides again: `--retry-failed`.")
    redo_reviewed: bool = Field(
        False, description="Process reviewed slides again too if the models have changed: `--redo-reviewed`."
    )
    settle_s: float = Field(0.0, ge=0, description="Skip slides changed within the last so many seconds: `--settle`.")
    follow_links: bool = Field(
        False, description="Follow symbolic links that lead out of the folder of slides: `--follow-links`."
    )
    max_failures: int | None = Field(
        None, ge=1, description="Stop once so many slides of this run are failed or partial: `--max-failures`."
    )
    dry_run: bool = Field(False, description="Show what would be done; write nothing: `--dry-run`.")
    quiet: bool = Field(False, description="Print errors and notices only: `--quiet`.")
    log_file: Path | None = Field(None, description="Log file, one JSON object per line: `--log-file`.")
    metrics: Path | None = Field(None, description="File of metrics for Prometheus, x.prom: `--metrics`.")
    scheduler: str | None = Field(
        None, min_length=1, description="Address of the Dask scheduler whose workers process the slides: `--scheduler`."
    )
    qc_slides: tuple[str, ...] = Field(
        (),
        description="Names of slides, `*` and `?` allowed, whose results are recorded over time for `wbctool qc`.",
    )
    max_megapixels: float = Field(300.0, gt=0, description="A larger image is a failed field.")
    cells_per_scan: int | Literal["all"] = Field(
        200,
        description="Zones of a whole-slide scan are looked at until so many cells are counted, or `all`: `--cells`.",
    )
    limits: Limits = Field(Limits(), description="The limits that raise a flag, and the ranges.")

    @field_validator("cells_per_scan", mode="before")
    @classmethod
    def _check_cells(cls, cells: object) -> object:
        """Refuse what is neither a number of cells nor ``all``."""
        text = str(cells)
        if isinstance(cells, bool) or not (text == "all" or (text.isdecimal() and int(text) > 0)):
            raise ValueError("a whole number from 1, or all")
        return text if text == "all" else int(text)

    @field_validator("slides", "out", *_PATHS, mode="before")
    @classmethod
    def _check_path(cls, path: object) -> object:
        """Refuse an empty path, which would be the current folder, and replace ``~`` by the home folder."""
        if path == "":
            raise ValueError("it is empty")
        return _expand_home(path) if isinstance(path, str | Path) else path

    @field_validator("out")
    @classmethod
    def _check_out(cls, out: Path) -> Path:
        """Refuse a table after which no folder of results can be named."""
        if out.suffix.lower() not in {".csv", WORKBOOK_SUFFIX}:
            raise ValueError("the name must end in .csv (or .xlsx); the folder of results is named after it")
        if not has_usable_stem(out):
            raise ValueError(f"no folder of results can be named after {out.name}")
        return out

    @field_validator("out", "log_file", "metrics")
    @classmethod
    def _check_not_laboratory_table(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        """Refuse to write over the laboratory's own tables, or to make a file that would be read as one of them."""
        slides = info.data.get("slides")  # None if it is not a path itself
        if path is None or slides is None:
            return path
        for kind, names in LABORATORY_TABLES.items():
            has_name = path.name.casefold() in names or (info.field_name == "out" and path.stem.casefold() == kind)
            if (has_name and _is_same_file(path.parent, slides)) or any(_is_same_file(path, slides / n) for n in names):
                raise ValueError(
                    f"{path} is the laboratory's own table of {kind}, which is only read; choose another name"
                )
        return path

    @field_validator("metrics")
    @classmethod
    def _check_metrics_suffix(cls, metrics: Path | None) -> Path | None:
        """Refuse a name that Prometheus's collector would not read."""
        if metrics is not None and metrics.suffix != ".prom":
            raise ValueError("the name must end in .prom; node_exporter reads no other")
        return metrics

    def result_settings(self) -> dict[str, Any]:
        """Return the settings that change what is written for a slide.

        Device and precision are not among them: the cards of the loaded models stand for them.

        Returns:
            JSON values by the name of the setting, the limits first.
        """
        own = self.model_dump(mode="json", include={"super_resolve", "readers", "max_megapixels"})
        return self.limits.model_dump(mode="json") | own

    def scan_settings(self) -> dict[str, Any]:
        """Return the settings that change what is written for a slide only if it is a whole-slide scan."""
        return self.model_dump(mode="json", include={"cells_per_scan"})

    def to_flat_dict(self) -> dict[str, Any]:
        """Return all settings as JSON values, named and arranged as in a settings file, the limits first."""
        return self.limits.model_dump(mode="json") | self.model_dump(mode="json", exclude={"limits"})


def load_settings(options: Mapping[str, Any], config: Path | None = None) -> RunSettings:
    """Combine the options of the command line with a settings file.

    Args:
        options: Settings by name, those of ``limits`` among them; None if an option was not given. They win over the
            file.
        config: A TOML file. Paths in it are relative to its folder.

    Returns:
        The validated settings.

    Raises:
        SettingsInvalid: A value cannot be used; the message names the file or the option, and the entry.

    >>> settings = load_settings({"slides": Path("slides"), "out": Path("counts.csv"), "low_count_below": 50})
    >>> settings.limits.low_count_below
    50
    """
    given = {name: value for name, value in options.items() if value is not None}
    entries = ({} if config is None else _read_toml(config)) | given
    limits = {name: entries.pop(name) for name in Limits.model_fields if name in entries}
    try:
        return RunSettings(**entries, limits=limits)
    except ValidationError as error:
        raise SettingsInvalid(_format_error(error, given, config)) from error


def _read_toml(path: Path) -> dict[str, Any]:
    """Read the entries of a settings file; its paths become relative to where the program runs."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsInvalid(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{path}: not a TOML file: {error}") from error
    _check_names(path, entries)
    paths = {}
    for name in _PATHS:
        if name in entries and _is_text(entries[name]):
            try:
                paths[name] = path.parent / _expand_home(entries[name])
            except ValueError as error:
                raise SettingsInvalid(f"{path}: {name}: {error}") from error
    return entries | paths


def _check_names(path: Path, entries: Mapping[str, Any]) -> None:
    """Refuse former and unknown names of settings."""
    if renamed := describe_renames(entries, SETTINGS):
        raise SettingsInvalid(f"{path}: {renamed}")
    known = (RunSettings.model_fields.keys() | Limits.model_fields.keys()) - _COMMAND_LINE_ONLY - {"limits"}
    for entry in entries:
        if entry not in known:
            raise SettingsInvalid(f"{path}: {entry}: no such setting; the settings are {', '.join(sorted(known))}")


def _expand_home(path: str | Path) -> Path:
    """Replace ``~`` or ``~user`` at the beginning of a path by that home folder.

    Raises:
        ValueError: There is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: there is no such home folder; write ./~ for a file of that name") from error


def _is_text(value: object) -> bool:
    """Return whether a value of the file is text that is not empty."""
    return isinstance(value, str) and value != ""


def _format_error(error: ValidationError, given: Mapping[str, Any], config: Path | None) -> str:
    """Name the file or the option, the entry, and what is wrong with it."""
    path_in_settings, cause = list_problems(error)[0]
    entry, *path = path_in_settings.removeprefix("limits.").split(".")
    if error.errors()[0]["type"] in _NOT_IN_RANGE and entry in RunSettings.model_fields:
        cause = _describe_whole_numbers(entry) or cause
    is_from_file = config is not None and entry not in given
    location = ".".join([f"{config}: {entry}" if is_from_file else _option_name(entry), *path])
    return f"{location}: {cause}"


def _describe_whole_numbers(entry: str) -> str:
    """Return which whole numbers a setting may have; empty if it is none that must be a whole number."""
    field = RunSettings.model_fields[entry]
    bounds = [getattr(limit, name) for name in ("ge", "le") for limit in field.metadata if hasattr(limit, name)]
    if field.annotation not in {int, int | None}:
        return ""
    return f"a whole number from {' to '.join(map(str, bounds))}"


def _option_name(name: str) -> str:
    """Return how the command line calls a setting."""
    return _OPTION_NAMES.get(name, "--" + name.replace("_", "-"))


def _is_same_file(path: Path, other: Path) -> bool:
    """Return whether two paths lead to one file, even if it does not exist."""
    try:
        return path.samefile(other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)
