"""`wbctool export` as a laboratory calls it, on a run with fake stages."""

import errno
import json
from pathlib import Path

import fakes
import pytest
from typer.testing import CliRunner

from wbctool.cli import app


def export(*args):
    return CliRunner().invoke(app, ["export", *map(str, args)])


@pytest.fixture
def done(run):
    (run.root / "s2" / "bad.png").write_bytes(b"")
    run()
    return run


def test_geojson_writes_a_file_for_each_image(done):
    result = export("geojson", done.out)
    folder = done.out.parent / "counts-geojson"
    assert (result.exit_code, result.stdout) == (0, f"{folder} written: 3 files, one per image\n")
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["s10/f1.png.geojson", "s2/f1.png.geojson", "s2/f2.png.geojson"]  # none for the image that failed
    features = json.loads((folder / "s10" / "f1.png.geojson").read_text())["features"]
    assert [f["properties"]["classification"]["name"] for f in features][-3:] == [
        "monocyte",
        "erythroblast",
        "platelet",
    ]


def test_geojson_names_files_of_images_that_are_gone(done):
    export("geojson", done.out)
    (done.root / "s2" / "f2.png").unlink()
    done()
    result = export("geojson", done.out)
    assert (result.exit_code, "2 files, one per image" in result.stdout) == (0, True)
    assert "these results hold no such image: s2/f2.png.geojson; remove what you do not need" in result.stderr


def test_coco_of_a_single_image_names_it_as_it_lies_beside_others(run):
    run.root = run.root / "s10" / "f1.png"
    run()
    assert export("coco", run.out).exit_code == 0
    (image,) = json.loads((run.out.parent / "counts-coco.json").read_text())["images"]
    assert image["file_name"] == "f1.png"


def test_export_takes_folder_of_run_and_writes_to_given_place(done, tmp_path):
    assert export("geojson", done.folder, "--to", tmp_path / "new" / "place").exit_code == 0
    assert (tmp_path / "new" / "place" / "s2" / "f1.png.geojson").is_file()


def test_coco_and_fhir_write_a_file_each(done):
    pytest.importorskip("fhir.resources")
    result = export("coco", done.out)
    assert result.stdout == f"{done.out.parent}/counts-coco.json written: 3 images\n"
    assert len(json.loads((done.out.parent / "counts-coco.json").read_text())["annotations"]) == 15
    result = export("fhir", done.out)
    assert result.stdout == f"{done.out.parent}/counts-fhir.json written: 2 reports, 0 final\n"
    first = (done.out.parent / "counts-fhir.json").read_bytes()
    export("fhir", done.out)
    assert (done.out.parent / "counts-fhir.json").read_bytes() == first


def test_export_of_altered_results_fails_and_leaves_earlier_file(done):
    target = done.out.parent / "counts-coco.json"
    export("coco", done.out)
    as_it_was = target.read_text()
    (done.folder / "s10" / "cells.csv").write_text("")
    result = export("coco", done.out)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"wbctool: {done.folder}/s10/cells.csv is not the file that was published")
    assert result.stderr.count("\n") == 1
    assert target.read_text() == as_it_was


def test_export_without_results_fails(tmp_path):
    result = export("geojson", tmp_path / "counts.csv")
    assert result.exit_code == 1
    assert result.stderr == (
        f"wbctool: {tmp_path}/counts.csv is missing: no run has ended on this output, or it was moved\n"
    )


def test_export_names_missing_slides_and_ends_with_3_for_failed_ones(done):
    (done.folder / "s2" / "slide.json").unlink()
    result = export("geojson", done.out)
    assert result.exit_code == 3
    assert result.stderr == "wbctool: s2 is left out: it has no published results\n"
    done(settle_s=3600)
    result = export("geojson", done.out)
    assert result.exit_code == 0
    assert "s10 is left out: it is waiting for the next run" in result.stderr


def test_export_to_unwritable_place_names_it(done, tmp_path):
    (tmp_path / "file").write_text("")
    result = export("geojson", done.out, "--to", tmp_path / "file")
    assert result.exit_code == 1
    assert "file/s2/f1.png.geojson cannot be written" in result.stderr


def test_geojson_of_too_long_name_is_reported_and_others_are_written(run):
    long = "x" * 244 + ".png"  # 248 bytes, 256 with .geojson
    try:
        fakes.draw_field(run.root / "s2" / long, ["basophil"])
    except OSError:
        pytest.skip("this file system has no such name")
    run()
    result = export("geojson", run.out)
    folder = run.out.parent / "counts-geojson"
    assert result.exit_code == 3
    assert result.stderr == f"wbctool: s2/{long} is left out: its name is too long to end in .geojson\n"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["s10/f1.png.geojson", "s2/f1.png.geojson", "s2/f2.png.geojson"]


@pytest.mark.parametrize("kind", ["geojson", "coco", "fhir"])
@pytest.mark.parametrize(
    "to", ["counts.csv", "counts/x.json", "counts/s2/slide.json", "counts", "link.csv", "a/../counts"]
)
def test_export_into_results_is_wrong_usage(done, kind, to):
    (done.out.parent / "link.csv").symlink_to(done.out)
    before = done.tree()
    result = export(kind, done.out, "--to", done.out.parent / to)
    assert result.exit_code == 2
    assert result.stderr == (
        f"wbctool: --to {done.out.parent}/{to} lies inside the results that are read; choose another place\n"
    )
    assert done.tree() == before


def test_export_without_permission_to_read_fails_in_one_line(done, monkeypatch):
    is_file = Path.is_file

    def forbidden(path):
        if path.match("s10/slide.json"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", forbidden)
    result = export("coco", done.out)
    assert (result.exit_code, result.stderr) == (
        *(1, f"wbctool: {done.folder}/s10/slide.json cannot be read: Permission denied\n"),
    )


def test_geojson_of_same_results_is_same_bytes(done, tmp_path):
    for name in ("a", "b"):
        export("geojson", done.out, "--to", tmp_path / name)
    assert (tmp_path / "a/s2/f1.png.geojson").read_bytes() == (tmp_path / "b/s2/f1.png.geojson").read_bytes()


def test_geojson_of_odd_names_stays_in_its_folder(run, tmp_path):
    fakes.draw_field(run.root / "=a\x1b[2J" / "f..png", ["basophil"])
    run()
    result = export("geojson", run.out, "--to", tmp_path / "to")
    assert result.exit_code == 0
    assert [path.name for path in (tmp_path / "to" / "=a\x1b[2J").iterdir()] == ["f..png.geojson"]
    assert "\x1b" not in result.output


def test_schema_writes_all_schemas(tmp_path):
    assert export("schema", "--to", tmp_path).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cells.schema.json",
        "counts.schema.json",
        "differential.schema.json",
    ]
