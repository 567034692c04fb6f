"""`wbctool train` from labelled data to models that a run loads: every stage, on real fields, in a minute."""

import csv
import functools
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import wbctool_training.train
import wbctool_training.trainers.classifier
import wbctool_training.trainers.detector
import wbctool_training.trainers.srgan
from PIL import Image
from wbctool_training.context import TrainingContext
from wbctool_training.fit import make_loader
from wbctool_training.models.backbones import Backbone
from wbctool_training.models.vgg import VGG16_BLOCKS, build_vgg_features
from wbctool_training.recipe import RECIPES_DIR, load_recipe
from wbctool_training.train import train
from wbctool_training.weights import load_imagenet_features

import experiments.backbones
import experiments.losses
from wbctool.datasets.labelled import (
    GroupSplit,
    Split,
    find_field_folders,
    infer_group,
    read_class_folders,
    read_fields,
)
from wbctool.enums import Device, Precision
from wbctool.errors import LabelledDataInvalid, ModelMismatch, SettingsInvalid
from wbctool.imaging.reader import read_field
from wbctool.imaging.resize import resize_square
from wbctool.inference.loading import load_generators, load_model, load_models
from wbctool.inference.model_card import ClassifierCard, default_models_dir
from wbctool.inference.model_folder import check_models
from wbctool.stages.detect import detect_cells
from wbctool.types.cells import ObjectClass

DATA = Path(__file__).parents[1] / "data"
FIELDS = sorted((DATA / "slides").glob("slide-0[12]/*.jpg"))
SHORT = {
    "samples = 24000": "samples = 4",
    "epoch_samples = 2000": "epoch_samples = 4",
    "canvas_px = 320": "canvas_px = 96",
    "pretrain_samples = 22000": "pretrain_samples = 4",
    "gan_samples = 1000": "gan_samples = 2",
    "epoch_samples = 1000": "epoch_samples = 2",
    "gan_batch = 8": "gan_batch = 2",
    "lr_px = 20": "lr_px = 8",
    "samples = 25600": "samples = 4",
    "epoch_samples = 3200": "epoch_samples = 4",
    "batch = 32": "batch = 4",
    "batch = 16": "batch = 2",
}


def place(source: str) -> Split:
    return GroupSplit().assign(SimpleNamespace(group=source, dataset="bccd"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's fields under numbers that spread them over the splits, with BCCD's boxes, and as class folders."""
    root = tmp_path_factory.mktemp("labelled")
    (root / "fields" / "images").mkdir(parents=True)
    wanted = [Split.TRAIN, Split.TRAIN, Split.VALIDATION, Split.TEST] * 4
    numbers: list[int] = []
    for split in wanted:
        numbers.append(next(n for n in range(1000) if n not in numbers and place(str(n)) is split))
    names = {path.name: f"BloodImage_{n:05d}.jpg" for path, n in zip(FIELDS, numbers, strict=True)}
    for path in FIELDS:
        shutil.copy(path, root / "fields" / "images" / names[path.name])
    for table in ("boxes.csv", "labels.csv"):
        with (
            (DATA / "labelled" / table).open(newline="") as lines,
            (root / "fields" / table).open("w", newline="") as out,
        ):
            header, *rows = csv.reader(lines)
            csv.writer(out).writerows([header, *([names[row[0]], *row[1:]] for row in rows)])
    with (root / "fields" / "labels.csv").open(newline="") as lines:
        for row in csv.DictReader(lines):
            folder = root / "cells" / row["wbc_labels"].split(",")[0].upper()
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / "fields" / "images" / row["image"], folder)
    return root


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    text = (RECIPES_DIR / "default.toml").read_text()
    for long, short in SHORT.items():
        assert long in text
        text = text.replace(long, short)
    path = tmp_path_factory.mktemp("recipe") / "short.toml"
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "vgg16.npz"
    state = build_vgg_features(VGG16_BLOCKS).state_dict()
    np.savez(path, **{f"features.{k}": v.numpy().astype(np.float16) for k, v in state.items()})
    return path


@pytest.fixture(autouse=True)
def no_worker_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in (
        wbctool_training.trainers.detector,
        wbctool_training.trainers.srgan,
        wbctool_training.trainers.classifier,
    ):
        monkeypatch.setattr(stage, "make_loader", functools.partial(make_loader, workers=0))


def test_the_demo_fields_were_never_trained_on_but_their_renamed_copies_fall_into_every_split(data: Path) -> None:
    assert {place(infer_group(path)) for path in FIELDS} == {Split.TEST}
    assert {place(infer_group(path)) for path in (data / "fields" / "images").iterdir()} == set(Split)


def workplace(data: Path, recipe: Path, weights: Path, out: Path) -> TrainingContext:
    fields = tuple(f for folder in find_field_folders(data) for f in read_fields(folder))
    images = read_class_folders(data)
    return TrainingContext(
        load_recipe(str(recipe)), images, fields, out, weights, False, None, GroupSplit(), Backbone.VGG19
    )


def test_an_unknown_origin_cannot_be_left_out(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="--hold-out-dataset nowhere: not in the data, whose datasets are "):
        train([data], tmp_path, group_split=GroupSplit(held_out_datasets=("nowhere",)))


def test_a_data_set_is_left_out_with_the_others_of_its_originals(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The class folders hold copies of the fields: who has seen those has met the laboratory."""
    seen: list[TrainingContext] = []
    monkeypatch.setitem(wbctool_training.train.STAGES, "detector", seen.append)
    caplog.set_level(logging.INFO, "training")
    train([data], tmp_path, stage="detector", group_split=GroupSplit(held_out_datasets=("cells",)))
    assert seen[0].group_split.held_out_datasets == ("cells", "fields")
    assert "left out too, as it shares originals with what is left out: fields" in caplog.text


def test_cells_are_found_anew_where_an_image_has_another_source(data: Path, recipe: Path, tmp_path: Path) -> None:
    """Remembered ones would keep the split of the time before groups.csv was there."""
    shutil.copytree(default_models_dir(), tmp_path / "out", ignore=shutil.ignore_patterns("*.int8.*", "*.fp16.*"))
    work = workplace(data, recipe, tmp_path, tmp_path / "out")
    work = replace(work, fields=(), images=work.images[:2])
    assert {cell.group for cell in work.load_cells()} == {image.group for image in work.images}
    grouped = replace(work, images=tuple(replace(image, source="one") for image in work.images))
    assert {cell.group for cell in grouped.load_cells()} == {"one"}


@pytest.mark.parametrize(
    ("stage", "said"),
    [
        ("detector", "no fields with boxes to train the detector on"),
        ("srgan", "no cells to train the generator on: none measures"),
        ("classifier", "no cells in the validation part"),
    ],
)
def test_too_little_data_is_said_in_a_line(
    data: Path, recipe: Path, weights: Path, tmp_path: Path, stage: str, said: str
) -> None:
    shutil.copytree(default_models_dir(), tmp_path / "out", ignore=shutil.ignore_patterns("*.int8.*", "*.fp16.*"))
    few = tmp_path / "few" / "MONOCYTE"
    few.mkdir(parents=True)
    image = next(i for i in read_class_folders(data) if place(i.group) is Split.TRAIN)
    with Image.open(image.path) as whole:
        whole.resize((160, 120)).save(few / image.path.name)
    with pytest.raises(LabelledDataInvalid, match=said):
        train([few.parent], tmp_path / "out", recipe=str(recipe), stage=stage, imagenet_weights=weights)


def test_all_stages_train_export_and_resume(
    data: Path, recipe: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "exported"
    train([data], out, recipe=str(recipe), imagenet_weights=weights)

    models = load_models(out, Device.CPU, Precision.AUTO)
    assert models.classifier.card.classes[0].value == "neutrophil"
    assert models.generator.card.recipe == "default"
    assert sum(models.detector.card.training["datasets"].values()) < len(
        FIELDS
    )  # the held-back ones are not trained on
    assert isinstance(detect_cells(read_field(FIELDS[0]), models.detector), tuple)
    for stage in ("detector", "srresnet", "srgan", "classifier"):
        folder = out / "training" / stage
        assert (folder / "last.ckpt").is_file()
        assert list(folder.glob("metrics/*/metrics.csv"))
        assert (folder / "curves.png").is_file()

    before = models.generator.card.sha256
    with caplog.at_level(logging.INFO):
        train([data], out, recipe=str(recipe), stage="srgan", imagenet_weights=weights, resume=True)
    assert "resuming from" in caplog.text
    after = load_models(out, Device.CPU, Precision.AUTO).generator.card.sha256
    metrics = out / "training" / "srgan" / "metrics"
    assert len(list(metrics.iterdir())) == 2  # the curves go on
    train([data], out, recipe=str(recipe), stage="srgan", imagenet_weights=weights)
    assert len(list(metrics.iterdir())) == 1  # and begin anew with a training that does
    assert after == before  # a finished training has nothing to go on with, and exports the same bytes


def test_every_backbone_is_compared_with_the_same_budget(
    data: Path, recipe: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two backbones, one of which the weights do not fit and no network has."""
    offline = functools.partial(
        load_imagenet_features, weights
    )  # what stands in for torchvision's server never answers
    monkeypatch.setattr(experiments.backbones, "load_imagenet_features", lambda _, backbone: offline(backbone))
    two = {b: experiments.backbones.PAPER_TABLE_6[b] for b in (Backbone.RESNET50, Backbone.VGG16)}
    monkeypatch.setattr(experiments.backbones, "PAPER_TABLE_6", two)
    for model in ("detector", "generator"):
        for ending in ("json", "onnx"):
            shutil.copy(default_models_dir() / f"{model}.{ending}", tmp_path)
    rows = experiments.backbones.compare_backbones(workplace(data, recipe, weights, tmp_path))

    assert [(row.backbone, row.init, row.n_samples) for row in rows] == [
        (Backbone.RESNET50, "random", 4),
        (Backbone.VGG16, "ImageNet", 4),
    ]
    for row in rows:
        assert row.train.n_cells > row.test.n_cells > 0
        assert 0 <= row.test.ci95[0] <= row.test.accuracy <= row.test.ci95[1] <= 100
        assert row.test.loss > 0
    folder = tmp_path / "training" / "compare"
    written = (folder / "table6.md").read_text()
    assert "71.68" in written  # the paper's figure for ResNet50, beside ours
    assert f"{rows[0].test.accuracy:.2f}" in written
    pictures = {path.name for path in folder.glob("*.png")}
    assert pictures == {"backbones.png", "confusion-resnet50.png", "confusion-vgg16.png"}


def test_the_generator_is_trained_under_each_loss_from_one_start(
    data: Path, recipe: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the first and the last of the losses."""
    names = ("generator-l1", "generator-l1-phi54-gan")
    monkeypatch.setattr(experiments.losses, "LOSSES", {name: experiments.losses.LOSSES[name] for name in names})
    for model in ("detector", "classifier"):
        for ending in ("json", "onnx"):
            shutil.copy(default_models_dir() / f"{model}.{ending}", tmp_path)
    text = recipe.read_text().replace("pretrain_samples = 4", "pretrain_samples = 0")
    further = tmp_path / "further.toml"
    further.write_text(text.replace("gan_samples = 2", "gan_samples = 4").replace("gan_lr = 5e-5", "gan_lr = 2e-4"))
    start = default_models_dir()
    train([data], tmp_path, recipe=str(further), imagenet_weights=weights, init_from=[start], ablate=True)
    shutil.copy(start / "generator.onnx", tmp_path)
    shutil.copy(start / "generator.json", tmp_path)

    generators = {model.card.name: model for model in load_generators(tmp_path)}
    assert set(generators) == {"generator", *names}
    lr = np.stack([read_field(path).rgb[:32, :32] for path in FIELDS[:4]])
    pictures = {name: model.run(lr)[0].astype(int) for name, model in generators.items()}
    for name in names:
        others = [other for other in pictures if other != name]
        assert all((pictures[name] != pictures[other]).any() for other in others), name
    apart = {name: np.abs(picture - pictures["generator"]).mean() for name, picture in pictures.items()}
    assert max(apart.values()) < 40  # four pairs from the shipped one, not from random weights


def test_nothing_is_calibrated_on_a_handful_of_cells(data: Path, tmp_path: Path) -> None:
    """On one cell the temperature ends at its bound, and nothing is left to a reader any more."""
    with pytest.raises(LabelledDataInvalid, match=r"cells of 4 sources.* to calibrate on, .*; 100 of 20 are needed"):
        train([data], tmp_path, recipe="calibrate", init_from=[default_models_dir()])


def test_a_classifier_is_calibrated_on_other_cells_without_training(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights stay; what its card knows of the cells that it was trained on stays too."""
    monkeypatch.setattr(wbctool_training.trainers.classifier, "MIN_CELLS", 4)
    monkeypatch.setattr(wbctool_training.trainers.classifier, "MIN_GROUPS", 4)
    train([data], tmp_path, recipe="calibrate", init_from=[default_models_dir()])
    assert [problem for _, problem in check_models(tmp_path) if problem] == []  # the other two were taken over
    before, after = (load_model(folder, ClassifierCard) for folder in (default_models_dir(), tmp_path))
    assert before.card.sha256 in after.card.training["started_from"]
    origins, fields = after.card.training["datasets"], len(list((data / "fields" / "images").iterdir()))
    assert origins == before.card.training["datasets"]
    assert 0 < after.card.training["calibrated_on"]["fields"] < fields
    assert after.card.training["groups"] == before.card.training["groups"]
    assert after.card.training["super_resolved_copies"] == 0
    assert after.card.temperature != before.card.temperature
    rgb = np.stack([resize_square(read_field(path).rgb[:, :480], 128) for path in FIELDS[:3]])
    assert np.abs(before.run(rgb)[0] - after.run(rgb)[0]).max() < 0.02


def test_without_training_and_without_a_start_there_is_no_classifier(data: Path, tmp_path: Path) -> None:
    for recipe in ("calibrate", "fine-tune"):
        with pytest.raises(SettingsInvalid, match=f"recipe {recipe} continues a trained model"):
            train([data], tmp_path, recipe=recipe, stage="classifier")
    assert not list(tmp_path.iterdir())


def test_a_generator_goes_on_from_one_folder(data: Path, recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="several --init-from are only for --stage classifier"):
        train([data], tmp_path, recipe=str(recipe), init_from=[default_models_dir()] * 2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "more",
    [
        {"compare": True, "ablate": True},
        {"compare": True, "init_from": [default_models_dir()]},
        {"compare": True, "backbone": "vgg16"},
        {"compare": True, "stage": "classifier"},
        {"ablate": True, "stage": "srgan"},
    ],
)
def test_options_that_would_be_ignored_are_refused(data: Path, tmp_path: Path, more: dict[str, Any]) -> None:
    with pytest.raises(SettingsInvalid, match="neither can be combined with the other or with --stage"):
        train([data], tmp_path, **more)


def test_weights_that_do_not_fit_are_told_of_before_hours_of_training(
    data: Path, recipe: Path, weights: Path, tmp_path: Path
) -> None:
    """The content loss looks through VGG19, whatever the classifier's backbone."""
    with pytest.raises(SettingsInvalid, match="cannot be those of resnet50 for the classifier and of vgg19"):
        train([data], tmp_path, recipe=str(recipe), imagenet_weights=weights, backbone="resnet50")
    with pytest.raises(
        ModelMismatch,
        match=r"does not hold the convolutions of resnet50: 317 tensors of 318 miss",
    ):
        train([data], tmp_path, str(recipe), "classifier", imagenet_weights=weights, backbone="resnet50")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("hours", [0, -1, float("nan")])
def test_no_time_to_train_is_refused(data: Path, tmp_path: Path, hours: float) -> None:
    with pytest.raises(SettingsInvalid, match="leaves no time to train"):
        train([data], tmp_path, max_hours=hours)


def test_cells_are_found_anew_where_a_box_was_corrected(data: Path, recipe: Path, tmp_path: Path) -> None:
    shutil.copytree(default_models_dir(), tmp_path / "out", ignore=shutil.ignore_patterns("*.int8.*", "*.fp16.*"))
    work = replace(workplace(data, recipe, tmp_path, tmp_path / "out"), images=())
    field = next(f for f in work.fields if len(f.labels) == 1)
    mistaken = replace(field, boxes=tuple(b for b in field.boxes if b.object_class is not ObjectClass.NUCLEATED))
    assert replace(work, fields=(mistaken,)).load_cells() == ()
    assert len(replace(work, fields=(field,)).load_cells()) == 1


def test_a_helper_that_has_seen_what_is_held_back_is_told_of(
    data: Path, recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(default_models_dir(), tmp_path / "out", ignore=shutil.ignore_patterns("*.int8.*", "*.fp16.*"))
    work = replace(workplace(data, recipe, tmp_path, tmp_path / "out"), fields=(), splitting=GroupSplit(fold=1))
    replace(work, images=work.images[:1]).load_cells()
    assert "detector.onnx was trained on sources that are held back here" in caplog.text


def test_what_the_paper_generates_is_not_taken_for_data(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainingContext] = []
    monkeypatch.setitem(wbctool_training.train.STAGES, "detector", seen.append)
    shutil.copytree(data, tmp_path / "data")
    made = tmp_path / "data" / "out" / "training" / "generated" / "neutrophil"
    made.mkdir(parents=True)
    shutil.copy(FIELDS[0], made)
    train([tmp_path / "data"], tmp_path / "data" / "out", stage="detector")
    assert {image.dataset for image in seen[0].images} == {"cells"}


def test_data_without_labels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelledDataInvalid, match="no labelled data"):
        train([tmp_path], tmp_path / "out")


def test_an_unknown_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="no stage upscaler"):
        train([tmp_path], tmp_path / "out", stage="upscaler")
