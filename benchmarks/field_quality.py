"""`python -m benchmarks.field_quality DATA`: how well blurred and crowded fields are distinguished from real ones.

DATA holds folders of fields with boxes (``boxes.csv``). Each field is measured unchanged, blurred by Gaussians, and
multiplied with a second field of its dataset, which looks like two layers of cells. Choose limits on the groups of the
first half and evaluate them on the second.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from wbctool.datasets.fields import find_field_folders, read_fields
from wbctool.imaging.formats import is_image
from wbctool.imaging.reader import read_field
from wbctool.inference.loading import load_model
from wbctool.inference.model_card import DetectorCard, default_models_dir
from wbctool.inference.session import OnnxModel
from wbctool.limits import Limits
from wbctool.stages.detect import detect_blood_cells
from wbctool.stages.quality import apply_quality_limits, measure_quality
from wbctool.types.cells import Field
from wbctool.types.slides import FieldQuality

if TYPE_CHECKING:
    from wbctool.types.arrays import Rgb

_SIGMAS_PX = (1, 2, 3)
_DEMO = Path(__file__).parent.parent / "tests" / "data" / "slides"
_LIMITS = Limits(max_relative_blur=1e6)  # a single field has no median of its slide


@dataclass(frozen=True, slots=True)
class FieldMeasurement:
    """One field in one state.

    Attributes:
        dataset: The dataset or microscope.
        half: 1 to choose limits, 2 to evaluate them.
        state: How the field was changed.
        quality: What was measured.
    """

    dataset: str
    half: int
    state: str
    quality: FieldQuality


def main() -> None:
    """Parse the options, measure the fields and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--every", type=int, default=1, help="take each n-th field")
    args = parser.parse_args()
    model = load_model(default_models_dir(), DetectorCard)
    rows = [row for item in find_fields(args.data, args.every) for row in measure_states(*item, model)]
    print_table(rows)


def find_fields(data: Path, step: int) -> Iterator[tuple[str, int, Path, Path]]:
    """Yield (dataset, half, field, another field of the dataset) for the labeled fields and the demo slides.

    Args:
        data: Folder of folders of fields with boxes.
        step: Take every step-th labeled field.
    """
    candidates = [(f.dataset, f.group, f.path) for folder in find_field_folders(data) for f in read_fields(folder)]
    candidates += [(f"demo {p.parent.name}", p.stem, p) for p in sorted(_DEMO.glob("*/*")) if is_image(p)]
    for dataset in sorted({dataset for dataset, _, _ in candidates}):
        members = [(group, path) for other, group, path in candidates if other == dataset]
        members = members if dataset.startswith("demo") else members[::step]
        for index, (group, path) in enumerate(members):
            half = 1 + int(hashlib.sha256(group.encode()).hexdigest(), 16) % 2
            yield dataset, half, path, members[(index + 1) % len(members)][1]


def measure_states(
    dataset: str, half: int, path: Path, other: Path, model: OnnxModel[DetectorCard]
) -> Iterator[FieldMeasurement]:
    """Yield the measurements of a field in each state.

    Args:
        dataset: The dataset or microscope.
        half: 1 or 2.
        path: The field.
        other: Another field of the dataset, as second layer.
        model: The detector.
    """
    rgb = read_field(path).rgb
    states = {"unchanged": rgb, "two layers": overlay_layers(rgb, read_field(other).rgb)}
    states |= {f"sigma {s} px": cv2.GaussianBlur(rgb, (0, 0), s).astype(np.uint8) for s in _SIGMAS_PX}
    for state, pixels in states.items():
        field = Field(path.name, pixels)
        detections = detect_blood_cells(field, model)
        (quality,) = apply_quality_limits([measure_quality(field, detections, model.card.stain_reference)], _LIMITS)
        yield FieldMeasurement(dataset, half, state, quality)


def overlay_layers(rgb: Rgb, other: Rgb) -> Rgb:
    """Show two layers of cells: their transmissions multiply (Beer-Lambert).

    Args:
        rgb: (H, W, 3) uint8 RGB.
        other: The second layer, uint8 RGB of any size; it is resized.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    second_layer = cv2.resize(other, (rgb.shape[1], rgb.shape[0]), interpolation=cv2.INTER_AREA).astype(np.float32)
    background = np.quantile(second_layer.reshape(-1, 3), 0.95, axis=0)
    return np.clip(rgb * (second_layer / background), 0, 255).astype(np.uint8)


def print_table(rows: list[FieldMeasurement]) -> None:
    """Print one line per dataset, half and state.

    Args:
        rows: All measurements.
    """
    print(f"{'dataset':14}{'half':>5} {'state':12}{'fields':>7}{'no scale':>9}{'blurred':>8}{'crowded':>8}", end="")
    print("   blur µm 1 %/50 %/99 %   cover 1 %/50 %/99 %   stain 50 %/99 %")
    for key in sorted({(r.dataset, r.half, r.state) for r in rows}):
        qualities = [r.quality for r in rows if (r.dataset, r.half, r.state) == key]
        blur = [q.blur_um for q in qualities if q.blur_um is not None]
        cover = [q.coverage for q in qualities if q.coverage is not None]
        stain = [q.stain_delta_e for q in qualities if q.stain_delta_e is not None]
        print(
            f"{key[0]:14}{key[1]:5} {key[2]:12}{len(qualities):7}{len(qualities) - len(blur):9}"
            f"{sum(q.blurred for q in qualities):8}{sum(q.crowded for q in qualities):8}   "
            f"{format_quantiles(blur, 0.01, 0.5, 0.99)}   {format_quantiles(cover, 0.01, 0.5, 0.99)}   "
            f"{format_quantiles(stain, 0.5, 0.99)}"
        )


def format_quantiles(values: list[float], *probabilities: float) -> str:
    """Format quantiles with three decimals; dashes if there are no values.

    Args:
        values: The values.
        probabilities: The probabilities of the quantiles, in [0, 1].
    """
    return " ".join(f"{np.quantile(values, q):.3f}" if values else "-" for q in probabilities)


if __name__ == "__main__":
    main()
