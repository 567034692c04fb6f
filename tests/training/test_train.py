"""`wbctool train`, from labeled data to models that a run loads."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import wbctool_training.train
import wbctool_training.trainers.classifier
from PIL import Image
from tiny_training import (
    FIELDS,
    SMALL_FEATURES,
    assign_split,
    copy_shipped_models,
    make_training_context,
    write_short_recipe,
)
from wbctool_training.context import TrainingContext
from wbctool_training.models.backbones import Backbone
from wbctool_training.models.classifier import CellClassifier, NormalizedClassifier
from wbctool_training.options import TrainingOptions
from wbctool_training.recipe_files import load_recipe
from wbctool_training.train import train
from wbctool_training.trainers.classifier_split import gather_cells

from wbctool.datasets.class_folders import read_class_folders
from wbctool.datasets.labelled import GroupSplit, Split, infer_group
from wbctool.enums import Device, Precision, TrainStage
from wbctool.errors import LabelledDataInvalid, ModelMismatch, SettingsInvalid
from wbctool.imaging.reader import read_field
from wbctool.inference.loading import load_model, load_models
from wbctool.inference.model_card import CompactCard, default_models_dir
from wbctool.labels import CellClass, Subtype, UnknownKind
from wbctool.stages.detect import detect_cells
from wbctool.types.cells import ObjectClass


def test_demo_fields_are_test_groups_and_their_renamed_copies_in_every_split(data: Path) -> None:
    in_test = [path.stem for path in FIELDS if assign_split(infer_group(path)) is Split.TEST]
    shows_a_training_cell = "BloodImage_00037"
    assert sorted([*in_test, shows_a_training_cell]) == sorted(path.stem for path in FIELDS)
    assert {assign_split(infer_group(path)) for path in (data / "fields" / "images").iterdir()} == set(Split)


def test_train_unknown_held_out_dataset_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="--hold-out-dataset nowhere: not in the data, whose datasets are "):
        train(TrainingOptions(data=[data], out=tmp_path, group_split=GroupSplit(held_out_datasets=("nowhere",))))


def test_train_held_out_dataset_holds_out_datasets_with_the_same_groups(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The class folders hold copies of the fields, so both come from one laboratory."""
    seen: list[TrainingContext] = []
    monkeypatch.setitem(wbctool_training.train.STAGES, "detector", seen.append)
    caplog.set_level(logging.INFO, "wbctool_training")
    train(
        TrainingOptions(data=[data], out=tmp_path, group_split=GroupSplit(held_out_datasets=("cells",))),
        stage=TrainStage.DETECTOR,
    )
    assert seen[0].options.group_split.held_out_datasets == ("cells", "fields")
    assert "also held out, because they share groups with a held-out dataset: fields" in caplog.text


def test_load_cells_changed_group_detects_again(data: Path, recipe: Path, tmp_path: Path) -> None:
    """The cached cells would keep the split from before groups.csv existed."""
    copy_shipped_models(tmp_path / "out")
    work = make_training_context(data, recipe, tmp_path, tmp_path / "out")
    work = replace(work, fields=(), images=work.images[:2])
    assert {cell.group for cell in work.load_cells()} == {image.group for image in work.images}
    grouped = replace(work, images=tuple(replace(image, group="one") for image in work.images))
    assert {cell.group for cell in grouped.load_cells()} == {"one"}


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ("detector", "no fields with boxes: the detector cannot be trained; --stage srgan, classifier and compact"),
        ("srgan", "no cells to train the generator on: none measures"),
        ("classifier", "no cells in the validation split"),
    ],
)
def test_train_too_little_data_is_refused_by_name(
    data: Path, recipe: Path, weights: Path, tmp_path: Path, stage: str, message: str
) -> None:
    copy_shipped_models(tmp_path / "out")
    few = tmp_path / "few" / "NEUTROPHIL"
    few.mkdir(parents=True)
    image = next(i for i in read_class_folders(data) if assign_split(i.group) is Split.TRAIN)
    with Image.open(image.path) as whole:
        whole.resize((160, 120)).save(few / image.path.name)
    with pytest.raises(LabelledDataInvalid, match=message):
        train(
            TrainingOptions(data=[few.parent], out=tmp_path / "out", imagenet_weights=weights),
            recipe=str(recipe),
            stage=stage,
        )


def test_train_detector_with_test_fields_alone_is_refused(data: Path, recipe: Path, tmp_path: Path) -> None:
    context = make_training_context(data, recipe, tmp_path, tmp_path / "out")
    fields = tuple(field for field in context.fields if assign_split(field.group) is Split.TEST)
    with pytest.raises(LabelledDataInvalid, match="all fields with boxes are in the test split"):
        wbctool_training.train.STAGES["detector"](replace(context, fields=fields))


def test_train_all_stages_exports_and_resumes(
    data: Path, recipe: Path, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "exported"
    train(TrainingOptions(data=[data], out=out, imagenet_weights=weights, workers=0), recipe=str(recipe))

    models = load_models(out, Device.CPU, Precision.AUTO)
    assert models.classifier.card.classes == load_recipe(str(recipe)).classes
    assert models.generator.card.recipe == "short"
    assert sum(models.detector.card.training.datasets.values()) < len(
        FIELDS
    )  # those of the test split are not trained on
    assert isinstance(detect_cells(read_field(FIELDS[0]), models.detector), tuple)
    assert models.second is not None
    assert models.second.card.recipe == "short"
    assert models.second.card.unknown_kinds[0] is UnknownKind.BLAST
    assert models.second.card.subtypes == ()  # the data tell none
    assert models.cards.familiarity_rule is not None
    for stage in ("detector", "srresnet", "srgan", "classifier", "compact"):
        folder = out / "training" / stage
        assert (folder / "last.ckpt").is_file()
        assert list(folder.glob("metrics/*/metrics.csv"))
        assert (folder / "curves.png").is_file()

    before = models.generator.card.sha256
    with caplog.at_level(logging.INFO):
        train(
            TrainingOptions(data=[data], out=out, imagenet_weights=weights, resume=True, workers=0),
            recipe=str(recipe),
            stage=TrainStage.SRGAN,
        )
    assert "resuming from" in caplog.text
    after = load_models(out, Device.CPU, Precision.AUTO).generator.card.sha256
    assert len(list((out / "training" / "srgan" / "metrics").iterdir())) == 2  # the curves continue
    assert after == before  # resuming a finished training exports the same bytes


@pytest.mark.parametrize("stage", ["classifier", "compact"])
def test_train_class_without_training_cells_is_refused(data: Path, tmp_path: Path, stage: str) -> None:
    """The card would say that the classifier knows it, and a run count none instead of saying not_assessed."""
    recipe = write_short_recipe(tmp_path / "all.toml")
    recipe.write_text(recipe.read_text().replace('"eosinophil"', '"eosinophil", "monocyte", "basophil"'))
    copy_shipped_models(tmp_path / "out", "detector", "generator")
    context = replace(make_training_context(data, recipe, tmp_path, tmp_path / "out"), fields=())
    with pytest.raises(LabelledDataInvalid, match="no training cells of monocyte, basophil: leave these out of"):
        wbctool_training.train.STAGES[stage](context)
    continued = gather_cells(
        replace(context, options=replace(context.options, init_from=(default_models_dir(),))), context.recipe.classifier
    )
    assert {cell.label for cell in continued.train} < set(context.recipe.classes)


def test_train_compact_on_data_with_subtypes_tells_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is not trained: its features are random."""
    folder = tmp_path / "data" / "neutrophil"
    folder.mkdir(parents=True)
    for number in range(48):
        rgb = read_field(FIELDS[number % len(FIELDS)]).rgb[number : number + 160, 240:400]
        Image.fromarray(rgb).save(folder / f"{('BNE', 'SNE')[number % 2]}_{number}.png")
    recipe = tmp_path / "neutrophils.toml"
    recipe.write_text('extends = "default"\nclasses = ["neutrophil"]\n')
    reader = CellClassifier(5, 0.2, Backbone.EFFICIENTNET_LITE0)
    reader.features = SMALL_FEATURES[Backbone.EFFICIENTNET_LITE0]()
    network = NormalizedClassifier(reader, white_balance=False)
    monkeypatch.setattr(wbctool_training.trainers.classifier, "fit_classifier", lambda *_: network)
    out = copy_shipped_models(tmp_path / "out", "detector")
    train(TrainingOptions(data=[folder.parent], out=out, workers=0), recipe=str(recipe), stage=TrainStage.COMPACT)
    model = load_model(out, CompactCard)
    assert model.card.subtypes == (Subtype.BAND, Subtype.SEGMENTED)
    assert model.card.subtype_threshold is not None
    assert "subtypes" in model.output_names


def test_train_continuing_recipe_without_init_from_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="recipe fine-tune continues a trained model"):
        train(TrainingOptions(data=[data], out=tmp_path / "out"), recipe="fine-tune", stage=TrainStage.CLASSIFIER)
    assert not (tmp_path / "out").exists()


def test_train_stage_without_samples_is_refused(data: Path, tmp_path: Path) -> None:
    untrained = tmp_path / "mine.toml"
    untrained.write_text('extends = "default"\n[classifier]\nsamples = 0\n')
    with pytest.raises(SettingsInvalid, match="recipe mine does not train the classifier"):
        train(
            TrainingOptions(data=[data], out=tmp_path / "out", init_from=[default_models_dir()]),
            str(untrained),
            TrainStage.CLASSIFIER,
        )
    assert not (tmp_path / "out").exists()


def test_train_generator_from_several_folders_is_refused(data: Path, recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match="several --init-from are only for --stage classifier"):
        train(TrainingOptions(data=[data], out=tmp_path, init_from=[default_models_dir()] * 2), recipe=str(recipe))
    assert not list(tmp_path.iterdir())


def test_train_unfit_imagenet_weights_are_refused_before_training(
    data: Path, recipe: Path, weights: Path, tmp_path: Path
) -> None:
    """The content loss looks through VGG19, whatever the classifier's backbone."""
    with pytest.raises(SettingsInvalid, match="cannot be those of resnet50 for the classifier and of vgg19"):
        train(
            TrainingOptions(data=[data], out=tmp_path, imagenet_weights=weights, backbone=Backbone.RESNET50),
            recipe=str(recipe),
        )
    with pytest.raises(
        ModelMismatch,
        match=r"does not hold the convolutions of resnet50: 317 tensors of 318 missing",
    ):
        train(
            TrainingOptions(data=[data], out=tmp_path, imagenet_weights=weights, backbone=Backbone.RESNET50),
            str(recipe),
            TrainStage.CLASSIFIER,
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("hours", [0, -1, float("nan")])
def test_train_without_time_is_refused(data: Path, tmp_path: Path, hours: float) -> None:
    with pytest.raises(SettingsInvalid, match="leaves no time to train"):
        train(TrainingOptions(data=[data], out=tmp_path, max_hours=hours))


def test_load_cells_corrected_box_detects_again(data: Path, recipe: Path, tmp_path: Path) -> None:
    copy_shipped_models(tmp_path / "out")
    work = replace(make_training_context(data, recipe, tmp_path, tmp_path / "out"), images=())
    field = next(f for f in work.fields if len(f.labels) == 1)
    mistaken = replace(field, boxes=tuple(b for b in field.boxes if b.object_class is not ObjectClass.NUCLEATED))
    assert replace(work, fields=(mistaken,)).load_cells() == ()
    assert len(replace(work, fields=(field,)).load_cells()) == 1


@pytest.mark.parametrize(
    ("labels", "unknown_kinds", "expected"),
    [
        ((CellClass.NEUTROPHIL, CellClass.NEUTROPHIL), (), CellClass.NEUTROPHIL),
        ((CellClass.NEUTROPHIL,), (), None),  # nobody says what the other cell is
        ((), ("blast", "blast"), UnknownKind.BLAST),
        ((CellClass.NEUTROPHIL,), ("blast",), None),
        ((), ("mast cell", "mast cell"), None),
    ],
)
def test_load_cells_of_a_field_have_the_kind_that_all_of_them_are(
    data: Path,
    recipe: Path,
    tmp_path: Path,
    labels: tuple[CellClass, ...],
    unknown_kinds: tuple[str, ...],
    expected: CellClass | UnknownKind | None,
) -> None:
    copy_shipped_models(tmp_path / "out", "detector")
    context = make_training_context(data, recipe, tmp_path, tmp_path / "out")
    field = next(f for f in context.fields if len(f.nucleated_boxes) == 2)
    field = replace(field, labels=labels, unknown_kinds=unknown_kinds)
    cells = replace(context, images=(), fields=(field,)).load_cells()
    assert [cell.label for cell in cells] == [expected, expected]


def test_load_cells_detector_that_saw_test_groups_warns(
    data: Path, recipe: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    copy_shipped_models(tmp_path / "out")
    work = make_training_context(data, recipe, tmp_path, tmp_path / "out")
    options = replace(work.options, group_split=GroupSplit(fold=1))
    replace(work, images=work.images[:1], fields=(), options=options).load_cells()
    assert "detector.onnx was trained on groups of this training's test split" in caplog.text


def test_train_ignores_synthetic_images_of_its_output(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[TrainingContext] = []
    monkeypatch.setitem(wbctool_training.train.STAGES, "detector", seen.append)
    shutil.copytree(data, tmp_path / "data")
    made = tmp_path / "data" / "out" / "training" / "generated" / "neutrophil"
    made.mkdir(parents=True)
    shutil.copy(FIELDS[0], made)
    train(TrainingOptions(data=[tmp_path / "data"], out=tmp_path / "data" / "out"), stage=TrainStage.DETECTOR)
    assert {image.dataset for image in seen[0].images} == {"cells"}


def test_train_unlabeled_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabelledDataInvalid, match="no labeled data"):
        train(TrainingOptions(data=[tmp_path], out=tmp_path / "out"))
