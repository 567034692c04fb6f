"""What a laboratory changes about a picture without changing the cell: light, stain, focus, resolution, compression.

All functions take and give (H, W, 3) uint8 RGB and draw from the generator they are handed, so a seed repeats them.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]

_ABSORBANCE = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)  # of a grey level: absorbance, natural logarithm


def affine_matrix(linear: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """(2, 3), for cv2.warpAffine, of the map ``linear @ point + offset`` of points as boxes have them.

    There a picture begins at 0 and its first pixel's centre lies at 0.5; for warpAffine it lies at 0.
    """
    half = np.full(2, 0.5)
    return np.hstack([linear, (offset + linear @ half - half)[:, None]])


def color_jitter(rgb: Rgb, rng: Generator, strength: float = 1.0) -> Rgb:
    """Another stain, lamp and camera: a colour matrix near identity, gain and gamma a channel, hue and saturation.

    strength: 0 changes nothing, 1 covers what differs between the public data sets.
    """
    mixing = np.eye(3) + rng.normal(0, 0.06 * strength, (3, 3))
    mixing /= mixing.sum(axis=1, keepdims=True)  # grey stays grey: white glass must not take a colour here
    mixed = cv2.transform(rgb, mixing)
    gamma = np.exp(rng.normal(0, 0.18 * strength) + rng.normal(0, 0.10 * strength, 3))
    gain = np.exp(rng.normal(0, 0.08 * strength) + rng.normal(0, 0.06 * strength, 3))
    levels = np.linspace(0, 1, 256)[:, None]
    curves = np.clip(levels**gamma * gain * 255 + 0.5, 0, 255).astype(np.uint8)
    hsv = cv2.cvtColor(cv2.LUT(mixed, curves[None]), cv2.COLOR_RGB2HSV_FULL)
    hue = (np.arange(256) + rng.normal(0, 7 * strength)) % 256
    saturation = np.clip(np.arange(256) * np.exp(rng.normal(0, 0.25 * strength)), 0, 255)
    hsv_curves = np.stack([hue, saturation, np.arange(256)], axis=1).astype(np.uint8)
    return cv2.cvtColor(cv2.LUT(hsv, hsv_curves[None]), cv2.COLOR_HSV2RGB_FULL).astype(np.uint8)


def random_stain(rgb: Rgb, rng: Generator) -> Rgb:
    """Another dye: what each channel absorbs (Beer-Lambert) mixed anew, more or less of it, on tinted glass.

    Goes far beyond what one laboratory's stains differ by, as another's red cells may be purple. Like HED augmentation
    (Tellez et al. 2018, doi 10.1109/TMI.2018.2820199), without stain vectors that are right for one dye alone.
    """
    mixing = np.eye(3) + rng.normal(0, 0.2, (3, 3))
    mixing /= mixing.sum(axis=1, keepdims=True).clip(0.5)  # grey stays grey: a nucleus stays dark
    density = np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.12, 3))
    tint = rng.normal(0, 0.06) + rng.normal(0, 0.06, 3)
    absorbance = _ABSORBANCE[rgb] @ (mixing * density[:, None]).T.astype(np.float32) + tint.astype(np.float32)
    stained: Rgb = (256 * np.exp(-absorbance) - 0.5).clip(0, 255).astype(np.uint8)
    return stained


def degrade_optics(rgb: Rgb, rng: Generator, strength: float = 1.0) -> Rgb:
    """Another objective, sensor and file format: blur, fewer pixels, noise, JPEG. Each with its own chance."""
    if rng.random() < 0.3 * strength:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.4, 1.8)).astype(np.uint8)
    if rng.random() < 0.25 * strength:
        rgb = downscale_upscale(rgb, rng.uniform(0.35, 0.9), rng)
    if rng.random() < 0.3 * strength:
        noisy = rgb + rng.standard_normal(rgb.shape, dtype=np.float32) * np.float32(rng.uniform(1, 10))
        rgb = np.clip(noisy, 0, 255).astype(np.uint8)
    if rng.random() < 0.3 * strength:
        rgb = compress_jpeg(rgb, int(rng.integers(35, 95)))
    if rng.random() < 0.1 * strength:
        sharpened = cv2.addWeighted(rgb, 1.6, cv2.GaussianBlur(rgb, (0, 0), 1.2), -0.6, 0)
        rgb = sharpened.astype(np.uint8)
    return rgb


def downscale_upscale(rgb: Rgb, scale: float, rng: Generator) -> Rgb:
    """Throw pixels away (by area) and bring the size back (by a random interpolation)."""
    height, width = rgb.shape[:2]
    small = cv2.resize(rgb, (max(4, round(width * scale)), max(4, round(height * scale))), interpolation=cv2.INTER_AREA)
    interpolation = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(2))]
    return cv2.resize(small, (width, height), interpolation=interpolation).astype(np.uint8)


def compress_jpeg(rgb: Rgb, quality: int) -> Rgb:
    """Through JPEG at ``quality`` (1 to 100) and back."""
    encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8)


def random_dihedral(rgb: Rgb, rng: Generator) -> Rgb:
    """One of the eight symmetries of the square: a smear has no up."""
    rgb = np.rot90(rgb, int(rng.integers(4)))
    return np.ascontiguousarray(rgb[:, ::-1] if rng.random() < 0.5 else rgb)
