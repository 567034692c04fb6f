"""The settings of a run: from flags and an optional TOML file, validated once."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from wbctool.enums import Device, Precision, SuperResolve
from wbctool.errors import SettingsInvalid
from wbctool.former_names import SETTINGS, describe_renames
from wbctool.hardware import usable_cores
from wbctool.labels import DIFFERENTIAL_CLASSES, CellClass
from wbctool.paths import SLIDES_CSV, has_usable_stem

Ranges = dict[CellClass, tuple[float, float]]


class Limits(BaseModel):
    """The limits that raise a flag, and the reference ranges. Shares are fractions from 0 to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    low_count_below: int = Field(100, ge=1, description="Fewer counted cells raise `low_count`.")
    limited_count_below: int = Field(200, ge=1, description="Fewer counted cells raise `limited_count`.")
    high_review_share: float = Field(
        0.10,
        ge=0,
        le=1,
        description="A larger share of the counted cells and those in review that is left to a reader raises "
        "`high_review_share`.",
    )
    out_of_domain_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="A larger share of all cells that is unlike anything the model was trained on raises "
        "`out_of_domain`.",
    )
    min_immature_granulocytes: int = Field(
        1, ge=1, description="This many counted immature granulocytes raise `immature_granulocytes`."
    )
    min_nrbc: int = Field(1, ge=1, description="This many erythroblasts raise `nrbc`.")
    max_blur_um: float = Field(
        0.19,
        gt=0,
        description="Width of the cells' sharpest edges, in µm of smear. A field whose edges are wider is blurred, if "
        "they are also wider than `min_blur_px`.",
    )
    min_blur_px: float = Field(
        1.5,
        ge=0,
        description="Width of the edges in native pixels up to which a field is never blurred: the pixels, not the "
        "focus, are then the limit.",
    )
    max_relative_blur: float = Field(
        1.5,
        ge=1,
        description="A field is also blurred if its edges are wider than this multiple of the slide's median, in "
        "slides of five fields or more.",
    )
    blurred_share: float = Field(
        0.10, ge=0, le=1, description="A larger share of blurred fields raises `blurred_fields`."
    )
    max_coverage: float = Field(
        0.62, ge=0, le=1, description="A field is crowded if red cells cover a larger share of it."
    )
    crowded_share: float = Field(
        0.10, ge=0, le=1, description="A larger share of crowded fields raises `crowded_fields`."
    )
    duplicate_correlation: float = Field(
        0.97, ge=0, le=1, description="Two fields that correlate more closely show the same cells: `duplicate_fields`."
    )
    max_stain_delta_e: float = Field(
        5.0,
        gt=0,
        description="A field's colors are out of range if they are farther (CIE76) from those that the detector was "
        "trained on.",
    )
    correct_wbc_for_nrbc: bool = Field(
        True,
        description="Whether the analyzer counts nucleated red cells as white cells, so that its count is corrected "
        "for them.",
    )
    adult: bool = Field(
        False,
        description="Treat slides without an age in `slides.csv` as adults, and so show the reference ranges, which "
        "hold for adults alone: `--adult`.",
    )
    reference_source: str = Field(
        "ARUP Laboratories, adults", description="The source that is named with the reference ranges."
    )
    reference_ranges: Ranges = Field(
        default_factory=lambda: {
            CellClass.NEUTROPHIL: (45.0, 79.0),
            CellClass.LYMPHOCYTE: (16.0, 47.0),
            CellClass.MONOCYTE: (0.0, 9.0),
            CellClass.EOSINOPHIL: (0.0, 6.0),
            CellClass.BASOPHIL: (0.0, 2.0),
        },
        description="Reference ranges in percent of the counted cells. A table in the file replaces all of them.",
    )
    absolute_source: str = Field(
        "UK, typical, adults", description="The source that is named with the absolute ranges."
    )
    absolute_ranges: Ranges = Field(
        default_factory=lambda: {
            CellClass.NEUTROPHIL: (2.0, 7.5),
            CellClass.LYMPHOCYTE: (1.0, 4.0),
            CellClass.MONOCYTE: (0.2, 1.0),
            CellClass.EOSINOPHIL: (0.0, 0.4),
            CellClass.BASOPHIL: (0.0, 0.1),
        },
        description="Reference ranges of the absolute counts, in 10⁹/L. A table in the file replaces all of them.",
    )

    @field_validator("reference_ranges", "absolute_ranges", mode="before")
    @classmethod
    def _check_range_classes(cls, ranges: object) -> object:
        """In our words: pydantic's would offer all cell classes, and say of a bound that lacks but that it does."""
        for label, bounds in ranges.items() if isinstance(ranges, dict) else ():
            if label not in DIFFERENTIAL_CLASSES:
                known = ", ".join(DIFFERENTIAL_CLASSES)
                raise ValueError(f"{label} is not a class of the differential; the classes are {known}")
            if not isinstance(bounds, (list, tuple)) or len(bounds) != 2:
                raise ValueError(f"{label}: a range is two numbers, as in [40, 75]")
        return ranges

    @field_validator("reference_ranges", "absolute_ranges")
    @classmethod
    def _check_range_bounds(cls, ranges: Ranges, info: ValidationInfo) -> Ranges:
        highest, unit = (100.0, "percentages") if info.field_name == "reference_ranges" else (1000.0, "10⁹/L")
        for label, (low, high) in ranges.items():
            if not 0 <= low <= high <= highest:
                raise ValueError(f"{label}: {low:g} to {high:g} is not a range of {unit}")
        return ranges


_MAX_WORKERS = 64


def _is_same_file(path: Path, other: Path) -> bool:
    """Whether two paths are of one file, be it there or not."""
    try:
        return path.samefile(other)
    except OSError:
        return os.path.realpath(path) == os.path.realpath(other)


def _default_workers() -> int:
    return min(usable_cores(), _MAX_WORKERS)


class RunSettings(Limits):
    """Everything `wbctool run` was asked for."""

    slides: Path = Field(description="Folder of slides.")
    out: Path = Field(description="The table of all slides, x.csv; the other results go into the folder x beside it.")
    models_dir: Path | None = Field(None, description="Folder of models: `--models`. Default: the shipped models.")
    device: Device = Field(Device.AUTO, description="Where the models run: `--device`.")
    super_resolve: SuperResolve = Field(
        SuperResolve.AUTO, description="Which cells the generator enlarges: `--super-resolve`."
    )
    precision: Precision = Field(Precision.AUTO, description="Precision of the models: `--precision`.")
    workers: int = Field(
        default_factory=_default_workers,
        ge=1,
        le=_MAX_WORKERS,
        description="Worker threads: `--workers`. Default: one per core.",
    )
    batch_size: int = Field(64, ge=1, le=4096, description="Cells classified together on a GPU: `--batch-size`.")
    force: bool = Field(False, description="Process every slide again: `--force`.")
    retry_failed: bool = Field(False, description="Process failed and partial slides again: `--retry-failed`.")
    settle_s: float = Field(0.0, ge=0, description="Skip slides changed within the last so many seconds: `--settle`.")
    follow_links: bool = Field(
        False, description="Follow symbolic links that lead out of the folder of slides: `--follow-links`."
    )
    max_failures: int | None = Field(
        None, ge=1, description="Stop once so many slides of this run are failed or partial: `--max-failures`."
    )
    dry_run: bool = Field(False, description="Show what would be done; write nothing: `--dry-run`.")
    quiet: bool = Field(False, description="Print errors only: `--quiet`.")
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

    @field_validator("out")
    @classmethod
    def _check_out(cls, out: Path) -> Path:
        if out.suffix.lower() != ".csv":
            raise ValueError("the name must end in .csv; the folder of results is named after it")
        if not has_usable_stem(out):
            raise ValueError(f"no folder of results can be named after {out.name}")
        return out

    @field_validator("out", "log_file", "metrics")
    @classmethod
    def _check_not_slides_csv(cls, path: Path | None, info: ValidationInfo) -> Path | None:
        slides = info.data.get("slides")  # None where it was not a path itself
        if path is not None and slides is not None and _is_same_file(path, slides / SLIDES_CSV):
            raise ValueError(f"{path} is the laboratory's own table of slides and would be overwritten")
        return path

    @field_validator("metrics")
    @classmethod
    def _check_metrics_suffix(cls, metrics: Path | None) -> Path | None:
        if metrics is not None and metrics.suffix != ".prom":
            raise ValueError("the name must end in .prom; node_exporter reads no other")
        return metrics

    def result_settings(self) -> dict[str, Any]:
        """The settings that change what is written for a slide, as JSON values; device and precision aside."""
        names = {"super_resolve", "max_megapixels", *Limits.model_fields}
        return self.model_dump(mode="json", include=names)


_OPTION_NAMES = {"models_dir": "--models", "settle_s": "--settle", "slides": "SLIDES"}
_COMMAND_LINE_ONLY = {"slides", "out"}


def load_settings(options: Mapping[str, Any], config: Path | None = None) -> RunSettings:
    """The settings of a run. options: what was given on the command line, None where it was not; they win over the file.

    Paths in the file are relative to the file's folder. Raises SettingsInvalid, naming the file or the option, and the
    entry.
    """
    given = {name: value for name, value in options.items() if value is not None}
    from_file = {} if config is None else _read_toml(config)
    try:
        return RunSettings(**{**from_file, **given})
    except ValidationError as error:
        first = error.errors()[0]
        entry, *path = map(str, first["loc"])
        location = f"{config}: {entry}" if entry not in given and config is not None else _option_name(entry)
        location = ".".join([location, *path])
        message = str(first["msg"]).removeprefix("Value error, ")
        raise SettingsInvalid(f"{location}: {message}") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise SettingsInvalid(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsInvalid(f"{path}: not a TOML file: {error}") from error
    known = RunSettings.model_fields.keys() - _COMMAND_LINE_ONLY
    if renamed := describe_renames(entries, SETTINGS):
        raise SettingsInvalid(f"{path}: {renamed}")
    for entry in entries:
        if entry not in known:
            raise SettingsInvalid(f"{path}: {entry}: no such setting; the settings are {', '.join(sorted(known))}")
    for entry, value in entries.items():
        if isinstance(value, bool) and RunSettings.model_fields[entry].annotation is not bool:
            raise SettingsInvalid(f"{path}: {entry}: {str(value).lower()} is not a value for it")
    for entry in {"models_dir", "log_file", "metrics"} & entries.keys():
        if entries[entry] == "":
            raise SettingsInvalid(f"{path}: {entry}: it is empty")
        if isinstance(entries[entry], str):
            entries[entry] = path.parent / entries[entry]
    return entries


def _option_name(name: str) -> str:
    return _OPTION_NAMES.get(name, "--" + name.replace("_", "-"))
