"""Scans made of real fields or drawn: a smear with glass around it, written as scanners write their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import fakes
import numpy as np
import tifffile
from numpy.typing import NDArray

from wbctool.imaging.reader import read_field
from wbctool.types.cells import Box, Detection, ObjectClass

Pixels = NDArray[np.uint8]
GLASS = (228, 224, 230)
FIELD_UM_PER_PX = 0.075  # of the demo's fields: their red cells measure 100 pixels
APERIO = "Aperio Image Library v12.0.15\r\n{width}x{height} [0,0 {width}x{height}] (256x256) JPEG/RGB Q=90"

UM_PER_PX = 0.5  # of the smear that is drawn
RED = (230, 140, 140)
STEP = 24  # between red cells: of 16 pixels, 8 µm
LEFT, RIGHT = 800, 2400  # the smear; to the left is glass, to the right it is thick


def read_fields(folder: Path, um_per_px: float) -> list[Pixels]:
    """Read the fields of a folder at a scale."""
    factor = FIELD_UM_PER_PX / um_per_px
    return [
        cv2.resize(read_field(path).rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        for path in sorted(folder.glob("*.jpg"))
    ]


def make_montage(fields: Sequence[Pixels], rows: int, columns: int) -> Pixels:
    """Lay fields side by side, one after the other."""
    numbers = np.arange(rows * columns) % len(fields)
    return np.vstack([np.hstack([fields[i] for i in row]) for row in numbers.reshape(rows, columns)])


def crowd(rgb: Pixels, times: int = 4) -> Pixels:
    """Lay a picture over itself, shifted, as in the thick part of a smear."""
    thick = rgb.astype(np.float32) / 255
    for number in range(1, times):
        shift = (37 * number, 53 * number)
        thick *= np.roll(rgb, shift, axis=(0, 1)).astype(np.float32) / np.array(GLASS, np.float32)
    return np.clip(thick * 255, 0, 255).astype(np.uint8)


def draw_smear(names: tuple[str, ...] = ("neutrophil", "lymphocyte", "monocyte")) -> tuple[NDArray[np.uint8], set]:
    """Draw a scan; return it and (x, y, name) of each white cell in the monolayer."""
    rgb = np.full((1600, 3200, 3), 255, np.uint8)
    cells = set()
    for row, y in enumerate(range(4, 1590, STEP)):
        for column, x in enumerate(range(LEFT, 3190, STEP)):
            number = row * 100 + column
            if number % 37 == 0:
                name = names[number // 37 % len(names)]
                rgb[y : y + 16, x : x + 16] = fakes.COLORS[name]
                if x < RIGHT:
                    cells.add((x, y, name))
            else:
                cv2.circle(rgb, (x + 8, y + 8), 8, RED, -1)
    rgb[:, RIGHT + 4 :] = np.minimum(rgb[:, RIGHT + 4 :], (150, 90, 110))
    return rgb, cells


def detect(field, *_):
    """Find the squares and discs that lie apart."""
    apart = (field.rgb.min(axis=-1) < 200).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(apart, connectivity=4)
    height, width = field.rgb.shape[:2]
    found = []
    for x, y, w, h, _ in stats[1:].tolist():
        if max(w, h) < 30 and min(w, h) > 4:
            is_red = field.rgb[y + h // 2, x + w // 2, 0] > 220
            kind = ObjectClass.RED_CELL if is_red else ObjectClass.NUCLEATED
            cut = x == 0 or y == 0 or x + w == width or y + h == height
            found.append(Detection(Box(x, y, w, h), 0.9, cut, kind))
    return tuple(found)


def write_scan(
    path: Path,
    rgb: Pixels,
    um_per_px: float | None,
    compression: str | None = None,
    aperio: bool = False,
    label: bool = False,
) -> Path:
    """Write a pyramidal tiled TIFF, as SVS if asked for, with a label and a macro image if asked for."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = rgb.shape[:2]
    header = APERIO.format(width=width, height=height)
    scale = f"|AppMag = 40|MPP = {um_per_px}|User = Jane Doe" if um_per_px else "|AppMag = 40"
    options = {"tile": (256, 256), "photometric": "rgb", "compression": compression, "metadata": None}
    if compression == "jpeg":
        options["compressionargs"] = {"level": 92}
    with tifffile.TiffWriter(path) as file:
        level, factor = rgb, 1
        while True:
            resolution = (
                {} if um_per_px is None else {"resolution": (1e4 / um_per_px / factor,) * 2, "resolutionunit": 3}
            )
            file.write(
                level, subfiletype=0 if factor == 1 else 1, description=header + scale if aperio else None,
                **options, **resolution,
            )  # fmt: skip
            if aperio and factor == 1:
                file.write(np.ascontiguousarray(rgb[::8, ::8]), photometric="rgb", metadata=None, description=header)
            if min(level.shape[:2]) < 512:
                break
            level = cv2.resize(level, (level.shape[1] // 4, level.shape[0] // 4), interpolation=cv2.INTER_AREA)
            factor *= 4
        if label:
            for name, color in (("label", (255, 0, 255)), ("macro", (0, 255, 255))):
                image = np.full((300, 300, 3), color, np.uint8)
                kind = 1 if name == "label" else 9
                description = f"Aperio Image Library v12.0.15\r\n{name} 300x300"
                file.write(image, photometric="rgb", subfiletype=kind, metadata=None, description=description)
    return path


def damage(path: Path) -> None:
    """Overwrite a tile of level 0 in the monolayer."""
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        index = 3 * (-(-page.imagewidth // 256)) + 5
        offset, length = page.dataoffsets[index], page.databytecounts[index]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(bytes(length))
