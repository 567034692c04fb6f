"""Augmentation by what differs between laboratories: light, stain, focus, resolution and compression.

Images are (H, W, 3) uint8 RGB arrays. Random numbers come from ``rng``, so a seed repeats them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from wbctool.types.arrays import Rgb


_ABSORBANCE = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)  # by gray level, natural logarithm


def affine_matrix(linear: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert an affine map of box coordinates to a matrix for cv2.warpAffine.

    In box coordinates the center of the first pixel is at 0.5; for warpAffine it is at 0.

    Args:
        linear: (2, 2).
        offset: (2,); a point p is mapped to ``linear @ p + offset``.

    Returns:
        (2, 3) float64.
    """
    half = np.full(2, 0.5)
    return np.hstack([linear, (offset + linear @ half - half)[:, None]])


def color_jitter(rgb: Rgb, rng: Generator, strength: float = 1.0) -> Rgb:
    """Vary stain, lamp and camera: a color matrix near the identity, gain, gamma, hue and saturation.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        rng: Random numbers.
        strength: 0 changes nothing; 1 covers the differences between the public datasets.

    Returns:
        The same shape.
    """
    mixing = np.eye(3) + rng.normal(0, 0.06 * strength, (3, 3))
    mixing /= mixing.sum(axis=1, keepdims=True)  # gray stays gray: background gets no color here
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
    """Show an image in a random stain: mix and scale the channels' absorbances (Beer-Lambert), on a tinted background.

    The range goes far beyond one laboratory's stains, because another's red cells may be purple.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        rng: Random numbers.

    Returns:
        The same shape.

    References:
        Similar to HED augmentation, Tellez et al. 2018, doi 10.1109/TMI.2018.2820199, but without stain vectors,
        which fit only one stain.
    """
    mixing = np.eye(3) + rng.normal(0, 0.2, (3, 3))
    mixing /= mixing.sum(axis=1, keepdims=True).clip(0.5)  # gray stays gray: a nucleus stays dark
    density = np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.12, 3))
    tint = rng.normal(0, 0.06) + rng.normal(0, 0.06, 3)
    absorbance = _ABSORBANCE[rgb] @ (mixing * density[:, None]).T.astype(np.float32) + tint.astype(np.float32)
    stained: Rgb = (256 * np.exp(-absorbance) - 0.5).clip(0, 255).astype(np.uint8)
    return stained


def degrade_optics(rgb: Rgb, rng: Generator, strength: float = 1.0) -> Rgb:
    """Vary objective, sensor and file format: blur, fewer pixels, noise, JPEG and sharpening, each at random.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        rng: Random numbers.
        strength: Multiplies each probability; 0 changes nothing.

    Returns:
        The same shape.
    """
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
    """Reduce an image by area and enlarge it to its size again with a random interpolation.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        scale: The scale of the reduced image, below 1; its sides are at least 4 pixels.
        rng: Random numbers.

    Returns:
        The same shape.
    """
    height, width = rgb.shape[:2]
    small = cv2.resize(rgb, (max(4, round(width * scale)), max(4, round(height * scale))), interpolation=cv2.INTER_AREA)
    interpolation = (cv2.INTER_LINEAR, cv2.INTER_CUBIC)[int(rng.integers(2))]
    return cv2.resize(small, (width, height), interpolation=interpolation).astype(np.uint8)


def compress_jpeg(rgb: Rgb, quality: int) -> Rgb:
    """Compress an image as JPEG and decode it again.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        quality: 1 to 100.

    Returns:
        The same shape.
    """
    encoded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8)


def random_dihedral(rgb: Rgb, rng: Generator) -> Rgb:
    """Apply one of the eight symmetries of the square, because a smear has no orientation.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        rng: Random numbers.

    Returns:
        The same pixels, rotated by a multiple of 90° and perhaps mirrored.
    """
    rgb = np.rot90(rgb, int(rng.integers(4)))
    return np.ascontiguousarray(rgb[:, ::-1] if rng.random() < 0.5 else rgb)


def to_tensor(rgb: Rgb) -> Tensor:
    """Convert an image from (H, W, 3) to a tensor (3, H, W), both uint8 RGB."""
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))
