"""`python -m benchmarks.large_fields`: are all cells of large fields and of a whole-slide scan found, once each?

The demo's fields are put side by side in random order, reduced, to stitched fields of four sizes, and in blocks of all
fields to a scan of 1.07 gigapixels, which is a smear with glass to its left and right. The cells that are there are
those that the detector finds in each of the demo's fields by itself. Each image is processed by `wbctool run`, which is
timed from start to end. Classes do not matter, so the second reader works alone, and nothing is super-resolved.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pandas as pd
import tifffile
from numpy.typing import NDArray
from scipy.spatial import KDTree

from benchmarks.demo_fields import DEMO
from benchmarks.processes import describe_machine, run_wbctool
from wbctool.enums import Device, Precision, Readers, SuperResolve
from wbctool.imaging.reader import read_field
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import DetectorCard, default_models_dir
from wbctool.stages.detect import detect_blood_cells
from wbctool.types.cells import ObjectClass

if TYPE_CHECKING:
    from wbctool.types.arrays import FloatArray, Rgb

_MOSAICS = ((40, 0.15), (60, 0.15), (64, 0.25), (88, 0.25))  # fields a side, and the scale of each
_SEED = 0  # of the order; in blocks a stitched field would be refused, because it shows the same picture twice
_BLOCK_ORDER = np.arange(16).reshape(4, 4)  # of the scan's blocks
_JPEG_QUALITY = 95
_SCAN_SCALE = 0.4
_DEMO_UM_PER_PX = 0.075
_SCAN_SIDE_PX, _SMEAR_PX = 32768, (8192, 24576)  # the smear's left and right side
_TILE_PX, _LEVEL_FACTOR, _MIN_LEVEL_PX = 256, 4, 512
_GLASS = (228, 224, 230)
_DESCRIPTION = "Aperio Image Library\r\n{side}x{side} [0,0 {side}x{side}] ({tile}x{tile}) JPEG/RGB|MPP = {um_per_px}"


@dataclass(frozen=True, slots=True)
class Mosaic:
    """Fields of the demo side by side, at some scale.

    Attributes:
        rgb: (H, W, 3) uint8 RGB.
        centers: (N, 2) the x and y of each white cell's center in pixels.
        cell_px: The mean of the cells' longer sides.
    """

    rgb: Rgb
    centers: FloatArray
    cell_px: float


@dataclass(frozen=True, slots=True)
class MadeImage:
    """An image that was written, and its cells.

    Attributes:
        name: Its size in pixels, or ``scan``.
        megapixels: Its size.
        centers: (N, 2) the x and y of each white cell's center in pixels.
        cell_px: The mean of the cells' longer sides.
    """

    name: str
    megapixels: float
    centers: FloatArray
    cell_px: float


@dataclass(frozen=True, slots=True)
class Score:
    """The cells of one image.

    Attributes:
        there: The cells that are there; of a scan, in the zones that were looked at.
        found: Those that were found, once or more often.
        twice: Those that were found more than once.
        others: Boxes in other places.
    """

    there: int
    found: int
    twice: int
    others: int


def main() -> None:
    """Parse the options, make the images one by one, process them and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=default_models_dir(), help="default: the shipped models")
    parser.add_argument("--cells", default="200", help="as `wbctool run --cells`, of the scan")
    args = parser.parse_args()
    print(f"{describe_machine(Device.CPU)}\n")
    print("| image | megapixels | cells there | found | twice | others | seconds | processor's seconds | peak MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        work_dir = Path(folder)
        slide = work_dir / "slides" / "slide"
        slide.mkdir(parents=True)
        options = ["--device", Device.CPU, "--models", str(args.models), "--readers", Readers.COMPACT]
        options += ["--super-resolve", SuperResolve.NEVER, "--cells", args.cells]
        for fields_a_side, scale in _MOSAICS:
            path = slide / "mosaic.jpg"
            print_row(call_apart(write_field, path, args.models, fields_a_side, scale), work_dir, options)
            path.unlink()
        print_row(call_apart(write_scan, slide / "scan.svs", args.models), work_dir, options)


def call_apart(function: Callable[..., MadeImage], *arguments: Any) -> MadeImage:
    """Call a function in a process of its own: the peak memory of a run counts that of the process that starts it."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def write_field(path: Path, models: Path, fields_a_side: int, scale: float) -> MadeImage:
    """Write a stitched field of the demo's fields in random order; arguments as of :func:`make_mosaic`."""
    order = np.random.default_rng(_SEED).permutation(fields_a_side**2) % _BLOCK_ORDER.size
    mosaic = make_mosaic(models, scale, order.reshape(fields_a_side, fields_a_side))
    bgr = cv2.cvtColor(mosaic.rgb, cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes())
    height, width = bgr.shape[:2]
    return MadeImage(f"{width}×{height}", width * height / 1e6, mosaic.centers, mosaic.cell_px)


def write_scan(path: Path, models: Path) -> MadeImage:
    """Write a pyramidal scan, a smear between glass; arguments as of :func:`make_mosaic`."""
    block = make_mosaic(models, _SCAN_SCALE, _BLOCK_ORDER)
    write_pyramid(path, block)
    height, width = block.rgb.shape[:2]
    left, right = (side // width for side in _SMEAR_PX)
    there = repeat_centers(block, range(left, right), range(-(-_SCAN_SIDE_PX // height)))
    return MadeImage("scan", _SCAN_SIDE_PX**2 / 1e6, there, block.cell_px)


def make_mosaic(models: Path, scale: float, order: NDArray[np.int64]) -> Mosaic:
    """Put the demo's fields side by side.

    Args:
        models: The folder of the models; the detector finds the cells.
        scale: The scale of each field, at most 1.
        order: (rows, columns), the number of the field at each place.
    """
    detector = load_model(models, DetectorCard)
    fields = [read_field(path) for path in sorted(DEMO.glob("slide-0[12]/*.jpg"))]
    reduced = [cv2.resize(f.rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for f in fields]
    boxes = [
        [d.box for d in detect_blood_cells(field, detector) if d.object_class is ObjectClass.NUCLEATED]
        for field in fields
    ]
    height, width = reduced[0].shape[:2]
    centers = [
        (column * width + scale * box.center[0], row * height + scale * box.center[1])
        for (row, column), number in np.ndenumerate(order)
        for box in boxes[number]
    ]
    rgb = np.vstack([np.hstack([reduced[number] for number in row]) for row in order])
    sides = [scale * box.longer_side_px for of_field in boxes for box in of_field]
    return Mosaic(rgb.astype(np.uint8, copy=False), np.array(centers), float(np.mean(sides)))


def repeat_centers(block: Mosaic, columns: range, rows: range) -> FloatArray:
    """Return the centers (N, 2) of the cells of blocks side by side; the first block is at 0, 0."""
    height, width = block.rgb.shape[:2]
    corners = np.array([(column * width, row * height) for row in rows for column in columns])
    return (corners[:, None] + block.centers).reshape(-1, 2)


def write_pyramid(path: Path, block: Mosaic) -> None:
    """Write a pyramidal scan of blocks between glass, tile by tile.

    Args:
        path: The file to write.
        block: A block of whole tiles.
    """
    glass = np.full((_TILE_PX, _TILE_PX, 3), _GLASS, np.uint8)
    block_rows, block_columns = (side // _TILE_PX for side in block.rgb.shape[:2])
    tiles = block.rgb.reshape(block_rows, _TILE_PX, block_columns, _TILE_PX, 3).swapaxes(1, 2)
    n_tiles = _SCAN_SIDE_PX // _TILE_PX
    left, right = (side // _TILE_PX for side in _SMEAR_PX)

    def iter_tiles() -> Iterator[NDArray[np.uint8]]:
        for row in range(n_tiles):
            for column in range(n_tiles):
                yield tiles[row % block_rows, column % block_columns] if left <= column < right else glass

    um_per_px = _DEMO_UM_PER_PX / _SCAN_SCALE
    description = _DESCRIPTION.format(side=_SCAN_SIDE_PX, tile=_TILE_PX, um_per_px=um_per_px)
    options: dict[str, Any] = {"photometric": "rgb", "compression": "jpeg", "metadata": None}
    options["tile"] = _TILE_PX, _TILE_PX
    reduced_px = _TILE_PX // _LEVEL_FACTOR
    level = np.empty((n_tiles * reduced_px, n_tiles * reduced_px, 3), np.uint8)
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        shape = (_SCAN_SIDE_PX, _SCAN_SIDE_PX, 3)
        file.write(iter_tiles(), shape=shape, dtype=np.uint8, description=description, **options)
        for index, tile in enumerate(iter_tiles()):
            y, x = (place * reduced_px for place in divmod(index, n_tiles))
            small = cv2.resize(tile, (reduced_px, reduced_px), interpolation=cv2.INTER_AREA)
            level[y : y + reduced_px, x : x + reduced_px] = small
        while True:
            file.write(level, subfiletype=1, description=description, **options)
            if level.shape[0] <= _MIN_LEVEL_PX:
                break
            side = level.shape[0] // _LEVEL_FACTOR
            level = cv2.resize(level, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def print_row(image: MadeImage, work_dir: Path, options: Sequence[str]) -> None:
    """Process the one image under ``work_dir`` and print its row of the table."""
    measured = run_wbctool(work_dir, work_dir / "slides", Precision.FP32, options)
    results = next((work_dir / "out" / "counts").rglob("slide.json")).parent
    score = score_cells(results, image.centers, image.cell_px)
    print(
        f"| {image.name} | {image.megapixels:.0f} | {score.there} | {score.found} | {score.twice} | {score.others} | "
        f"{measured.seconds:.1f} | {measured.cpu_s:.1f} | {measured.peak_mb:.0f} |",
        flush=True,
    )


def score_cells(results: Path, there: FloatArray, cell_px: float) -> Score:
    """Compare the cells of a run with those that are there.

    Args:
        results: The folder of the slide's results.
        there: (N, 2) the centers of the cells that are there, in pixels.
        cell_px: The mean of the cells' longer sides; a center closer than half of it is the same cell.
    """
    cells = pd.read_csv(results / "cells.csv")
    found = np.stack([cells["x"] + cells["width"] / 2, cells["y"] + cells["height"] / 2], axis=1)
    distances, nearest = KDTree(there).query(found, distance_upper_bound=cell_px / 2)
    is_cell = np.isfinite(distances)
    counts = np.bincount(np.asarray(nearest)[is_cell], minlength=len(there))[is_looked_at(there, results)]
    return Score(len(counts), int((counts > 0).sum()), int((counts > 1).sum()), int((~is_cell).sum()))


def is_looked_at(points: FloatArray, results: Path) -> NDArray[np.bool_]:
    """Return whether each point (N, 2) was looked at: in a field all were, in a scan those in some zones."""
    record = json.loads((results / "slide.json").read_text())
    if "scan" not in record:
        return np.ones(len(points), bool)
    zone_px = record["scan"]["width"] / math.sqrt(record["scan"]["zones"])  # zones are square, and the scan is
    names = [quality["field"] for quality in record["quality"]]
    corners = np.array([[int(number) for number in re.findall(r"\d+", name)] for name in names])
    offsets = points[:, None] - corners
    return np.asarray(((offsets >= 0) & (offsets < zone_px)).all(axis=-1).any(axis=-1))


if __name__ == "__main__":
    main()
