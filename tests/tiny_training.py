"""Fixtures of a training that takes seconds: 16 labeled fields, a short recipe, random VGG16 weights."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from wbctool_training.context import TrainingContext
from wbctool_training.export import GeneratorGraph, round_weights_fp16, to_onnx, write_model
from wbctool_training.models.backbones import Backbone, build_features
from wbctool_training.models.srgan import Generator
from wbctool_training.options import TrainingOptions
from wbctool_training.recipe_files import load_recipe

from wbctool.datasets.class_folders import read_class_folders
from wbctool.datasets.fields import find_field_folders, read_fields
from wbctool.datasets.labelled import GroupSplit, Split
from wbctool.inference.adaptation_info import AdaptationInfo
from wbctool.inference.model_card import GeneratorCard, default_models_dir, load_fp32_card

SMALL_FEATURES: dict[Backbone, Callable[[], nn.Sequential]] = {
    Backbone.VGG19: lambda: nn.Sequential(nn.Conv2d(3, 512, 8, 8), nn.ReLU(), nn.MaxPool2d(2)),
    Backbone.EFFICIENTNET_LITE0: lambda: nn.Sequential(nn.Conv2d(3, 1280, 16, 16), nn.ReLU6(), nn.Identity()),
}
"""Backbones that cost no time, below the heads of the two readers."""
DATA = Path(__file__).parent / "data"
FIELDS = sorted((DATA / "slides").glob("slide-0[12]/*.jpg"))
CLASSES = ["neutrophil", "lymphocyte", "eosinophil"]
"""Those of the fields."""
_SHORT: dict[str, dict[str, Any]] = {
    "detector": {"samples": 4, "epoch_samples": 4, "batch": 2, "canvas_px": 96},
    "srgan": {
        "pretrain_samples": 4,
        "gan_samples": 2,
        "epoch_samples": 2,
        "batch": 2,
        "gan_batch": 2,
        "lr_px": 8,
        "content_layer": [1, 2],
    },
    "classifier": {"samples": 4, "epoch_samples": 4, "batch": 4},
    "compact": {"samples": 4, "epoch_samples": 4, "batch": 4},
    "networks": {
        "detector_width": 4,
        "generator_blocks": 1,
        "generator_width": 4,
        "discriminator_width": 4,
        "discriminator_hidden": 8,
    },
}


def assign_split(group: str) -> Split:
    """The split of a group of BCCD."""
    return GroupSplit().assign(SimpleNamespace(group=group, dataset="bccd"))


def write_labeled_data(root: Path) -> Path:
    """The demo's fields under numbers that spread them over the splits, with BCCD's boxes, and as class folders."""
    (root / "fields" / "images").mkdir(parents=True)
    splits = [Split.TRAIN, Split.TRAIN, Split.VALIDATION, Split.TEST] * 4
    numbers: list[int] = []
    for split in splits:
        numbers.append(next(n for n in range(1000) if n not in numbers and assign_split(str(n)) is split))
    names = {path.name: f"BloodImage_{n:05d}.jpg" for path, n in zip(FIELDS, numbers, strict=True)}
    for path in FIELDS:
        shutil.copy(path, root / "fields" / "images" / names[path.name])
    for table in ("boxes.csv", "labels.csv"):
        with (
            (DATA / "labelled" / table).open(newline="") as file,
            (root / "fields" / table).open("w", newline="") as out,
        ):
            header, *rows = csv.reader(file)
            csv.writer(out).writerows([header, *([names[row[0]], *row[1:]] for row in rows)])
    with (root / "fields" / "labels.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            folder = root / "cells" / row["wbc_labels"].split(",")[0].upper()
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / "fields" / "images" / row["image"], folder)
    return root


def write_short_recipe(path: Path, **changes: dict[str, Any]) -> Path:
    """The default recipe with the data's classes, a few samples, narrow networks, and changes by section."""
    lines = ['extends = "default"', f"classes = {json.dumps(CLASSES)}"]
    for section, values in _SHORT.items():
        lines += [f"[{section}]", *(f"{k} = {json.dumps(v)}" for k, v in (values | changes.get(section, {})).items())]
    path.write_text("\n".join(lines))
    return path


def write_narrow_generator(folder: Path) -> Path:
    """Write a generator of the short recipe's size, which nearly interpolates, and its card; return the folder."""
    network = Generator(_SHORT["networks"]["generator_blocks"], _SHORT["networks"]["generator_width"])
    network.init_as_interpolation()
    with torch.no_grad():
        for parameter in network.parameters():  # the export leaves weights of zero out
            parameter.add_(0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    round_weights_fp16(network)
    card = load_fp32_card(default_models_dir(), GeneratorCard)
    card = card.model_copy(update={"parameters": sum(p.numel() for p in network.parameters())})
    rgb = np.zeros((2, 32, 32, 3), np.uint8)
    write_model(to_onnx(GeneratorGraph(network), rgb, dynamic_side=True), card, folder)
    return folder


def write_vgg16_weights(path: Path) -> Path:
    """Random weights of a VGG16 in half precision, as npz."""
    state = build_features(Backbone.VGG16).state_dict()
    np.savez(path, **{f"features.{k}": v.numpy().astype(np.float16) for k, v in state.items()})
    return path


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labeled_data(tmp_path_factory.mktemp("labelled"))


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_short_recipe(tmp_path_factory.mktemp("recipe") / "short.toml")


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_vgg16_weights(tmp_path_factory.mktemp("weights") / "vgg16.npz")


def make_training_context(data: Path, recipe: Path, weights: Path, out: Path) -> TrainingContext:
    fields = tuple(field for folder in find_field_folders(data) for field in read_fields(folder))
    images = read_class_folders(data)
    options = TrainingOptions(data=[data], out=out, imagenet_weights=weights, workers=0)
    return TrainingContext(load_recipe(str(recipe)), images, fields, options)


def copy_shipped_models(folder: Path, *names: str) -> Path:
    """Copy shipped models with their cards, by default all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or ("detector", "generator", "classifier", "compact"):
        for suffix in ("json", "onnx"):
            shutil.copy(default_models_dir() / f"{name}.{suffix}", folder)
    return folder


def make_adaptation(*cell_sha256: str) -> AdaptationInfo:
    """What the card of a classifier says that was adapted with cells of these hashes."""
    return AdaptationInfo(
        laboratory="our laboratory",
        parent_sha256="a" * 64,
        readers=("reader",),
        cells_by_label={"monocyte": len(cell_sha256)},
        groups=1,
        cell_sha256=cell_sha256,
        accuracy_before=0.8,
        accuracy_after=0.9,
        silent_errors_before=0.05,
        silent_errors_after=0.01,
        coverage_before=0.7,
        coverage_after=0.8,
    )
