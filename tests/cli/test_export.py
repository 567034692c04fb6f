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


def test_geojson_has_a_file_an_image(done):
    said = export("geojson", done.out)
    folder = done.out.parent / "counts-geojson"
    assert (said.exit_code, said.stdout) == (0, f"{folder} written: 3 files, one per image\n")
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["s10/f1.png.geojson", "s2/f1.png.geojson", "s2/f2.png.geojson"]  # none for the image that failed
    features = json.loads((folder / "s10" / "f1.png.geojson").read_text())["features"]
    assert [f["properties"]["classification"]["name"] for f in features][-3:] == [
        "monocyte",
        "erythroblast",
        "platelet",
    ]


def test_the_folder_names_the_run_as_well_and_to_says_where(done, tmp_path):
    assert export("geojson", done.folder, "--to", tmp_path / "new" / "place").exit_code == 0
    assert (tmp_path / "new" / "place" / "s2" / "f1.png.geojson").is_file()


def test_coco_and_fhir_are_a_file_each(done):
    pytest.importorskip("fhir.resources")
    said = export("coco", done.out)
    assert said.stdout == f"{done.out.parent}/counts-coco.json written: 3 images\n"
    assert len(json.loads((done.out.parent / "counts-coco.json").read_text())["annotations"]) == 15
    said = export("fhir", done.out)
    assert said.stdout == f"{done.out.parent}/counts-fhir.json written: 2 reports, 0 final\n"
    first = (done.out.parent / "counts-fhir.json").read_bytes()
    export("fhir", done.out)
    assert (done.out.parent / "counts-fhir.json").read_bytes() == first


def test_an_altered_file_ends_it_in_one_line_and_leaves_what_was_there(done):
    target = done.out.parent / "counts-coco.json"
    target.write_text("as it was")
    (done.folder / "s10" / "cells.csv").write_text("")
    said = export("coco", done.out)
    assert (said.exit_code, said.stdout) == (1, "")
    assert said.stderr.startswith(f"wbctool: {done.folder}/s10/cells.csv is not the file that was published")
    assert said.stderr.count("\n") == 1
    assert target.read_text() == "as it was"


def test_without_results_it_says_so(tmp_path):
    said = export("geojson", tmp_path / "counts.csv")
    assert said.exit_code == 1
    assert said.stderr == (
        f"wbctool: {tmp_path}/counts.csv is missing: no run has ended on this output, or it was moved\n"
    )


def test_slides_left_out_are_named_and_those_that_failed_cost_the_exit_code(done):
    (done.folder / "s2" / "slide.json").unlink()
    said = export("geojson", done.out)
    assert said.exit_code == 3
    assert said.stderr == "wbctool: s2 is left out: it has no published results\n"
    done(settle_s=3600)
    said = export("geojson", done.out)
    assert said.exit_code == 0
    assert "s10 is left out: it is waiting for the next run" in said.stderr


def test_a_place_that_cannot_be_written_is_named(done, tmp_path):
    (tmp_path / "file").write_text("")
    said = export("geojson", done.out, "--to", tmp_path / "file")
    assert said.exit_code == 1
    assert "file/s2/f1.png.geojson cannot be written" in said.stderr


def test_an_image_whose_name_leaves_no_room_is_named_and_the_others_are_written(run):
    long = "x" * 244 + ".png"  # 248 bytes, 256 with .geojson
    try:
        fakes.draw_field(run.root / "s2" / long, ["basophil"])
    except OSError:
        pytest.skip("this file system has no such name")
    run()
    said = export("geojson", run.out)
    folder = run.out.parent / "counts-geojson"
    assert said.exit_code == 3
    assert said.stderr == f"wbctool: s2/{long} is left out: its name is too long to end in .geojson\n"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["s10/f1.png.geojson", "s2/f1.png.geojson", "s2/f2.png.geojson"]


@pytest.mark.parametrize("kind", ["geojson", "coco", "fhir"])
@pytest.mark.parametrize(
    "to", ["counts.csv", "counts/x.json", "counts/s2/slide.json", "counts", "link.csv", "a/../counts"]
)
def test_the_results_that_are_read_are_no_place_to_write_to(done, kind, to):
    (done.out.parent / "link.csv").symlink_to(done.out)
    before = done.tree()
    said = export(kind, done.out, "--to", done.out.parent / to)
    assert said.exit_code == 2
    assert said.stderr == (
        f"wbctool: --to {done.out.parent}/{to} lies inside the results to be exported; choose another place\n"
    )
    assert done.tree() == before


def test_a_results_folder_without_permission_is_one_line(done, monkeypatch):
    is_file = Path.is_file

    def forbidden(path):
        if path.match("s10/slide.json"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", forbidden)
    said = export("coco", done.out)
    assert (said.exit_code, said.stderr) == (
        *(1, f"wbctool: {done.folder}/s10/slide.json cannot be read: Permission denied\n"),
    )


def test_a_cell_keeps_its_id_from_export_to_export(done, tmp_path):
    for name in ("a", "b"):
        export("geojson", done.out, "--to", tmp_path / name)
    assert (tmp_path / "a/s2/f1.png.geojson").read_bytes() == (tmp_path / "b/s2/f1.png.geojson").read_bytes()


def test_names_lead_nowhere_else(run, tmp_path):
    fakes.draw_field(run.root / "=a\x1b[2J" / "f..png", ["basophil"])
    run()
    said = export("geojson", run.out, "--to", tmp_path / "to")
    assert said.exit_code == 0
    assert [path.name for path in (tmp_path / "to" / "=a\x1b[2J").iterdir()] == ["f..png.geojson"]
    assert "\x1b" not in said.output


def test_the_schemas_are_written(tmp_path):
    assert export("schema", "--to", tmp_path).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cells.schema.json",
        "counts.schema.json",
        "differential.schema.json",
    ]
