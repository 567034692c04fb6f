"""The functions of the Python API; ``import wbctool`` imports them when one is first used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from wbctool.enums import Device, Precision, Readers, SuperResolve
from wbctool.errors import ResultsInvalid
from wbctool.imaging.crop import crop_cells
from wbctool.imaging.physical_size import read_um_per_px
from wbctool.imaging.reader import decode_rgb, read_image_bytes
from wbctool.inference import loading
from wbctool.inference.loading import Models
from wbctool.inference.model_card import default_models_dir
from wbctool.limits import Limits
from wbctool.paths import CELLS_CSV, OutputPaths, is_file
from wbctool.report.csv_tables import NOT_ASSESSED, decode_csv_name
from wbctool.report.table_schema import read_column_types
from wbctool.stages.classify import classify_cells
from wbctool.stages.detect import detect_blood_cells
from wbctool.stages.judgment import judge_slide
from wbctool.stages.plausibility import check_plausibility
from wbctool.stages.preprocess import preprocess_crops
from wbctool.stages.quality import measure_quality
from wbctool.types.cells import Cell, Field, ObjectClass
from wbctool.types.differential import Differential
from wbctool.types.slides import Familiarity

if TYPE_CHECKING:
    import pandas as pd

_NAME_COLUMNS = frozenset({"slide", "field"})


@dataclass(frozen=True, slots=True)
class ImageAnalysis:
    """The white cells of one image.

    Attributes:
        cells: Each cell with its box in native pixels, class probabilities, outcome and, if the metadata or the red
            cells give a scale, its diameter in µm.
        differential: The count over these cells, with intervals and flags.
        familiarity: Whether the image, taken for a slide, is familiar; None if the models do not measure it. With too
            few cells to decide, only those are counted that pass the stricter rule of unfamiliar slides.
    """

    cells: tuple[Cell, ...]
    differential: Differential
    familiarity: Familiarity | None


def load_models(
    folder: Path | str | None = None,
    device: Device | str = Device.AUTO,
    precision: Precision | str = Precision.AUTO,
    readers: Readers | str = Readers.BOTH,
    threads: int = 0,
) -> Models:
    """Load, start and warm up the detector, the generator and the classifiers.

    Args:
        folder: Folder of models; the shipped models if None.
        device: ``auto`` takes CUDA if a session works there, otherwise the CPU; ``cuda`` or ``cpu``.
        precision: ``auto`` takes the int8 copies on a CPU and the fp16 copies on CUDA if there are any, otherwise fp32;
            or ``fp32``, ``fp16``, ``int8``.
        readers: Which networks classify the cells: ``both``, ``vgg19`` or ``compact``.
        threads: CPU threads of one call; 0 for all cores, 1 if several calls are made at a time.

    Returns:
        The models, to pass to :func:`analyze_image`.

    Raises:
        ModelNotFound: A model or its card is missing.
        ModelMismatch: A model is not the one that its card describes.
        DeviceUnavailable: CUDA is demanded and does not work.
    """
    return loading.load_models(
        default_models_dir() if folder is None else Path(folder),
        Device(device),
        Precision(precision),
        Readers(readers),
        threads,
    )


def analyze_image(
    image: Path | str | NDArray[np.uint8],
    models: Models,
    super_resolve: SuperResolve | str = SuperResolve.AUTO,
    limits: Limits | None = None,
) -> ImageAnalysis:
    """Detect, classify and count the white cells of one image, as `wbctool run` does.

    Args:
        image: Path of an image file of any kind that is read, or an array (H, W, 3) of uint8, RGB.
        models: What :func:`load_models` returned.
        super_resolve: Which cells the generator enlarges: ``auto``, ``always`` or ``never``.
        limits: Limits of the flags, and reference ranges; the defaults if None.

    Returns:
        The cells and their differential.

    Raises:
        FieldUnreadable: The file cannot be read.
        FieldImplausible: The image cannot be a stained smear.
        CellsTooSmall: The image is large, and its cells have too few pixels to be seen.
        ValueError: The array has another shape or dtype.

    >>> models = load_models(device="cpu")
    >>> analysis = analyze_image(np.full((240, 320, 3), 240, np.uint8), models)
    >>> len(analysis.cells), ", ".join(analysis.differential.flags)
    (0, 'no_wbc, low_count')
    """
    field, um_per_px = _as_field(image)
    check_plausibility(field)
    card = models.classifier.card
    objects = detect_blood_cells(field, models.detector)
    detections = [detection for detection in objects if detection.object_class is ObjectClass.NUCLEATED]
    crops = crop_cells(field, [detection.box for detection in detections], card.crop_margin)
    inputs = preprocess_crops(crops, models.generator, SuperResolve(super_resolve))
    predictions = classify_cells(inputs.rgb, models.classifier, models.second, with_cam=True)
    measured = measure_quality(field, objects, models.cards.stain_reference, um_per_px)
    cells = [
        Cell(field.name, index, *parts)
        for index, parts in enumerate(zip(detections, inputs.super_resolved, predictions, strict=True), start=1)
    ]
    judgment = judge_slide(cells, [measured], models.cards.familiarity_rule, card.classes, limits or Limits(), n_read=1)
    return ImageAnalysis(judgment.cells, judgment.differential, judgment.familiarity)


def read_results(out: Path | str) -> pd.DataFrame:
    """Read the table of all slides that `wbctool run` wrote.

    Args:
        out: The CSV that was given to ``--out``, or the folder beside it.

    Returns:
        One row a slide, in the order of the table, with the columns of counts.csv: slide, status and flags as text,
        numbers of fields and cells as Int64, percentages as Float64. What was not counted or not assessed is missing
        (``pd.NA``). Slides' names are as in the file system.

    Raises:
        ResultsInvalid: The table is missing or not one that `wbctool run` wrote.
    """
    return _read_table(OutputPaths.from_path(Path(out)).counts_csv, "counts")


def read_cells(out: Path | str) -> pd.DataFrame:
    """Read the cells of all slides that `wbctool run` wrote.

    Args:
        out: The CSV that was given to ``--out``, or the folder beside it.

    Returns:
        One row a cell, slide after slide, with the columns of cells.csv: names, label, outcome and reason as text,
        pixels as Int64, scores and probabilities as Float64. Slides without results have no rows.

    Raises:
        ResultsInvalid: A table is missing or not one that `wbctool run` wrote.
    """
    import pandas as pd

    output = OutputPaths.from_path(Path(out))
    files = (output.slide_file(slide, CELLS_CSV) for slide in read_results(out)["slide"])
    tables = [_read_table(file, "cells") for file in files if is_file(file)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _as_field(image: Path | str | NDArray[np.uint8]) -> tuple[Field, float | None]:
    """Read a file, or check an array; return the field and the side of a pixel in µm, if its metadata tell."""
    if not isinstance(image, np.ndarray):
        data = read_image_bytes(Path(image))
        return Field(Path(image).name, decode_rgb(data)), read_um_per_px(data)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an image is (H, W, 3) of uint8, RGB; this array is {image.shape} of {image.dtype}")
    return Field("image", np.ascontiguousarray(image)), None


def _read_table(path: Path, name: str) -> pd.DataFrame:
    """Read one of our CSV files by its Table Schema; no name of a slide is taken for a missing value."""
    import pandas as pd

    types = read_column_types(name)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
        for column in table.columns:
            table[column] = _convert(table[column], types)
    except FileNotFoundError as error:
        raise ResultsInvalid(f"{path} is missing: no run has ended on this output, or it was moved") from error
    except (OSError, ValueError) as error:
        raise ResultsInvalid(f"{path} is not a table written by wbctool: {error}") from error
    return table


def _convert(column: pd.Series[Any], types: Mapping[str, str]) -> pd.Series[Any]:
    """Give a column of text the type that its Table Schema names."""
    import pandas as pd

    name = str(column.name)
    if name not in types:
        raise ValueError(f"its column {name!r} is unknown")
    if name in _NAME_COLUMNS:
        return column.map(decode_csv_name).astype(pd.StringDtype("python"))  # pyarrow takes no lone surrogates
    if types[name] == "string":
        return column.astype("string")
    if types[name] == "boolean":
        return column.map({"true": True, "false": False}).astype("boolean")
    numbers = pd.to_numeric(column.mask(column.isin(["", NOT_ASSESSED])))
    return numbers.astype("Int64" if types[name] == "integer" else "Float64")
