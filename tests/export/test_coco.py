"""COCO as its own reader, pycocotools, takes it."""

import json
from dataclasses import replace

import fakes
import pytest

from wbctool.export.coco import coco_json
from wbctool.paths import OutputPaths
from wbctool.report.categories import ARTIFACT, reclassify
from wbctool.store.reader import read_published_slides

coco = pytest.importorskip("pycocotools.coco")


@pytest.fixture
def loaded(run, tmp_path):
    fakes.draw_field(run.root / "s2" / "f3.png", [])
    run()
    slides = list(read_published_slides(OutputPaths(run.out)))
    sizes = {(slide.result.slide, field): (320, 64) for slide in slides for field in slide.field_names}
    path = tmp_path / "coco.json"
    path.write_text(coco_json(slides, sizes), encoding="utf-8")
    return coco.COCO(str(path))


def test_coco_images_include_fields_without_cells(loaded):
    images = {image["file_name"]: image for image in loaded.loadImgs(loaded.getImgIds())}
    assert list(images) == ["s2/f1.png", "s2/f2.png", "s2/f3.png", "s10/f1.png"]
    assert [len(loaded.getAnnIds(imgIds=[image["id"]])) for image in images.values()] == [2, 1, 0, 12]
    assert {(image["width"], image["height"]) for image in images.values()} == {(320, 64)}


def test_coco_annotation_has_box_score_and_attributes(loaded):
    (number,) = loaded.getAnnIds(catIds=loaded.getCatIds(catNms=["lymphocyte"]))
    (annotation,) = loaded.loadAnns([number])
    assert (annotation["bbox"], annotation["area"], annotation["score"]) == ([40, 8, 16, 16], 256, 0.93)
    assert annotation["attributes"]["outcome"] == "counted"
    review = [a for a in loaded.dataset["annotations"] if a["attributes"]["outcome"] == "review"]
    assert [a["attributes"]["reason"] for a in review] == ["low_confidence"]


def test_coco_categories_follow_cell_classes(loaded):
    assert [(c["id"], c["name"]) for c in loaded.dataset["categories"]][:2] == [(1, "neutrophil"), (2, "lymphocyte")]
    assert {c["name"] for c in loaded.dataset["categories"] if c["supercategory"] == "other"} == {
        "erythroblast",
        "platelet",
        "artefact",
    }


def test_coco_artifact_category_and_root_slide_without_folder(run):
    run()
    slide = next(iter(read_published_slides(OutputPaths(run.out))))
    first, *others = slide.result.cells
    artefact = replace(first, prediction=reclassify(first.prediction, ARTIFACT, slide.classes))
    odd = replace(slide, result=replace(slide.result, cells=(artefact, *others)))
    sizes = {(slide.result.slide, field): (320, 64) for field in slide.field_names}
    content = json.loads(coco_json([odd], sizes, root_slide=slide.result.slide))
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert [names[a["category_id"]] == "artefact" for a in content["annotations"]] == [True] + [False] * len(others)
    assert [image["file_name"] for image in content["images"]] == list(slide.field_names)


def test_coco_as_its_own_ground_truth_has_average_precision_1(loaded):
    """A data set that is its own ground truth has an average precision of 1."""
    from pycocotools.cocoeval import COCOeval

    results = [
        {key: a[key] for key in ("image_id", "category_id", "bbox", "score")} for a in loaded.dataset["annotations"]
    ]
    evaluation = COCOeval(loaded, loaded.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_coco_undecodable_name_is_escaped(run):
    run()
    slide = next(iter(read_published_slides(OutputPaths(run.out))))
    odd = replace(slide, result=replace(slide.result, slide="a\udcff", cells=()), field_names=("\n.png",))
    images = json.loads(coco_json([odd], {("a\udcff", "\n.png"): (1, 1)}).encode())["images"]
    assert images[0]["file_name"] == "a\\xff/\n.png"
