"""`python -m benchmarks.overlapping_fields DATA`: are cells that two fields show counted once, and is none lost?

DATA is a folder of fields of one microscope. Different ones are put together to one large smear, and fields are cut
from it row by row, as a motorized stage takes them: with an error of some pixels and fractions of one, a brightness of
their own, vignetting and JPEG compression. Then the fields of DATA are taken as one slide, and the pairs that are found
to overlap are printed, to be looked at.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from wbctool.imaging.formats import is_image
from wbctool.imaging.reader import decode_rgb, read_field
from wbctool.imaging.thumbnails import make_field_thumbnail
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import DetectorCard, default_models_dir
from wbctool.inference.session import OnnxModel
from wbctool.stages.detect import detect_blood_cells
from wbctool.stages.field_overlap import FieldView, Overlap, find_overlaps
from wbctool.stages.shared_cells import find_repeated_cells, match_cells
from wbctool.types.cells import Detection, Field, ObjectClass
from wbctool.types.results import FieldThumbnail

if TYPE_CHECKING:
    from wbctool.types.arrays import Rgb

_OVERLAPS = (0.05, 0.10, 0.20, 0.30, 0.40)
_SMEAR_WIDTH_PX = 3840
_FIELD_WIDTH_PX, _FIELD_HEIGHT_PX = 1280, 960
_STAGE_ERROR_PX = 3.0
_BRIGHTNESS = 0.07
_VIGNETTING = 0.12  # of the brightness, in the middle of a side
_JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True)
class ViewedField:
    """A field after detection.

    Attributes:
        thumbnail: Its small image.
        cells: Its white cells.
        x: Its left side in the smear, in pixels.
        y: Its top side.
    """

    thumbnail: FieldThumbnail
    cells: tuple[Detection, ...]
    x: float = 0.0
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class Score:
    """The cells of one smear.

    Attributes:
        fields: The number of fields.
        detections: The number of white cells in them.
        cells: The number of different white cells, by the true positions of the fields.
        shared: The number of those that two fields or more show.
        once: The number of those that are kept once.
        more: The number of those that are kept more than once.
        lost: The number of those that are not kept.
        cpu_s: The processor time to find them.
    """

    fields: int
    detections: int
    cells: int
    shared: int
    once: int
    more: int
    lost: int
    cpu_s: float


def main() -> None:
    """Parse the options, cut the fields and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--tile-width", type=int, default=320, help="of a field in the smear, in pixels; 3/4 as high")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    paths = sorted(path for path in args.data.rglob("*") if is_image(path))
    detector = load_model(default_models_dir(), DetectorCard)
    smear = build_smear(paths, args.tile_width, args.seed)
    print("| overlap | fields | white cells in them | different ones | shared | once | more than once | lost | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for overlap in _OVERLAPS:
        score = score_fields([view_field(*cut, detector) for cut in cut_fields(smear, overlap, args.seed)])
        print(
            f"| {100 * overlap:.0f} % | {score.fields} | {score.detections} | {score.cells} | {score.shared} | "
            f"{score.once} | {score.more} | {score.lost} | {score.cpu_s:.2f} |",
            flush=True,
        )
    print_pairs([view_field(read_field(path), 0, 0, detector) for path in paths])


def build_smear(paths: Sequence[Path], tile_width: int, seed: int) -> Rgb:
    """Put different fields together to one image, each once.

    Args:
        paths: The fields.
        tile_width: The width of each of them in the smear, in pixels.
        seed: The seed of their order.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    tiles_per_side = _SMEAR_WIDTH_PX // tile_width
    chosen = np.random.default_rng(seed).permutation(len(paths))[: tiles_per_side**2]
    tiles = [
        cv2.resize(read_field(paths[i]).rgb, (tile_width, 3 * tile_width // 4), interpolation=cv2.INTER_AREA)
        for i in chosen.tolist()
    ]
    rows = [np.hstack(tiles[i : i + tiles_per_side]) for i in range(0, len(tiles), tiles_per_side)]
    return np.vstack(rows).astype(np.uint8, copy=False)


def cut_fields(smear: Rgb, overlap: float, seed: int) -> Iterator[tuple[Field, float, float]]:
    """Cut fields from a smear row by row.

    Args:
        smear: (H, W, 3) uint8 RGB.
        overlap: The share of a field's sides that neighbors have in common.
        seed: The seed of the errors of the stage and of the lamp.

    Yields:
        The field, and its left and top side in the smear in pixels.
    """
    rng = np.random.default_rng(seed)
    height, width = (side - 2 * _STAGE_ERROR_PX for side in smear.shape[:2])
    down, across = np.mgrid[-1 : 1 : _FIELD_HEIGHT_PX * 1j, -1 : 1 : _FIELD_WIDTH_PX * 1j]
    vignette = (1 - _VIGNETTING * (down**2 + across**2))[..., None]
    tops = np.arange(0, height - _FIELD_HEIGHT_PX, _FIELD_HEIGHT_PX * (1 - overlap))
    lefts = np.arange(0, width - _FIELD_WIDTH_PX, _FIELD_WIDTH_PX * (1 - overlap))
    for index, (top, left) in enumerate(itertools.product(tops, lefts)):
        x, y = np.array([left, top]) + _STAGE_ERROR_PX + rng.uniform(-_STAGE_ERROR_PX, _STAGE_ERROR_PX, 2)
        moved = cv2.warpAffine(
            smear,
            np.array([[1, 0, x], [0, 1, y]]),
            (_FIELD_WIDTH_PX, _FIELD_HEIGHT_PX),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        shaded = np.clip(moved * vignette * rng.uniform(1 - _BRIGHTNESS, 1 + _BRIGHTNESS), 0, 255).astype(np.uint8)
        bgr = cv2.cvtColor(shaded, cv2.COLOR_RGB2BGR)
        _, jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        yield Field(f"field-{index:03d}", decode_rgb(jpeg.tobytes(), 100)), float(x), float(y)


def view_field(field: Field, x: float, y: float, detector: OnnxModel[DetectorCard]) -> ViewedField:
    """Detect the white cells of a field whose left and top side in the smear are x and y."""
    found = detect_blood_cells(field, detector)
    cells = tuple(d for d in found if d.object_class is ObjectClass.NUCLEATED)
    return ViewedField(make_field_thumbnail(field), cells, x, y)


def score_fields(fields: Sequence[ViewedField]) -> Score:
    """Compare the cells that are kept with the different cells by the true positions of the fields."""
    names = [field.thumbnail.name for field in fields for _ in field.cells]
    cells = [cell for field in fields for cell in field.cells]
    start = time.process_time()
    repeated = find_repeated_cells(names, cells, [field.thumbnail for field in fields])
    cpu_s = time.process_time() - start
    pairs = np.array(list(_iter_true_pairs(fields))).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(len(cells), len(cells)))
    n_cells, labels = connected_components(graph, directed=False)
    kept = np.bincount(np.delete(labels, list(repeated)), minlength=n_cells)
    is_shared = np.bincount(labels, minlength=n_cells) > 1
    return Score(
        fields=len(fields),
        detections=len(cells),
        cells=n_cells,
        shared=int(is_shared.sum()),
        once=int((kept[is_shared] == 1).sum()),
        more=int((kept > 1).sum()),
        lost=int((kept == 0).sum()),
        cpu_s=cpu_s,
    )


def _iter_true_pairs(fields: Sequence[ViewedField]) -> Iterator[tuple[int, int]]:
    """Yield the cells that are the same by the true positions of their fields, by their index."""
    begins = [0, *itertools.accumulate(len(field.cells) for field in fields)]
    for (i, one), (k, other) in itertools.combinations(enumerate(fields), 2):
        dx, dy = other.x - one.x, other.y - one.y
        if abs(dx) < _FIELD_WIDTH_PX and abs(dy) < _FIELD_HEIGHT_PX:
            for first, second in match_cells(one.cells, other.cells, Overlap(i, k, dx, dy, 1.0), one.thumbnail):
                yield begins[i] + first, begins[k] + second


def print_pairs(fields: Sequence[ViewedField]) -> None:
    """Print the pairs of fields that are found to overlap if all are of one slide."""
    views = [FieldView(f.thumbnail, tuple(cell.box for cell in f.cells)) for f in fields if f.cells]
    start = time.process_time()
    overlaps = find_overlaps(views)
    print(f"\n{len(views)} fields as one slide, {time.process_time() - start:.2f} CPU s:\n")
    print("| first | second | moved by | correlation |\n|---|---|---|---|")
    for overlap in overlaps:
        names = (views[index].thumbnail.name for index in (overlap.first, overlap.second))
        print(f"| {' | '.join(names)} | {overlap.dx_px:.0f}, {overlap.dy_px:.0f} | {overlap.correlation:.2f} |")


if __name__ == "__main__":
    main()
