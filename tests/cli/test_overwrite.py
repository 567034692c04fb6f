"""No command replaces a file that wbctool did not write; each variant is tried as a laboratory would meet it."""

import json
import os
import shutil
from pathlib import Path

import openpyxl
import pytest

MINE = "slide,neutrophil,other\nA,120,0\n"


@pytest.fixture
def folder(slides, tmp_path, monkeypatch):
    """A folder with slides, in which the commands run."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def done(cli, folder):
    """The same with results."""
    (folder / "qc.toml").write_text('qc_slides = ["s2"]\n')
    assert cli("run", "slides", "--out", "counts.csv", "--config", "qc.toml").exit_code == 0
    return folder


def names(folder):
    return sorted(path.name for path in Path(folder).iterdir())


def put(path, content=MINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def assert_refused(result, path, content=MINE):
    """Check that the refusal is wrong usage and names the file, which is as it was."""
    assert (result.exit_code, result.stdout) == (2, "")
    assert path.name in result.stderr
    assert path.read_text() == content


class TestTable:
    @pytest.mark.parametrize("name", ["t.csv", "slides/differentials.csv", "slides/s2/notes.csv"])
    @pytest.mark.parametrize("option", [(), ("--force",), ("--dry-run",)])
    def test_run_on_table_of_laboratory_is_refused(self, cli, folder, name, option):
        path = put(folder / name)
        assert_refused(cli("run", "slides", "--out", name, *option), path)
        assert not path.with_suffix("").exists()

    def test_run_replaces_empty_file_and_its_own_table(self, cli, folder):
        put(folder / "t.csv", "")
        for _ in range(2):
            assert cli("run", "slides", "--out", "t.csv").exit_code == 0
            assert (folder / "t.csv").read_text().startswith("slide,status,")

    def test_run_on_copy_of_its_table_is_refused(self, cli, done):
        path = done / "archive.csv"
        shutil.copy("counts.csv", path)
        assert_refused(cli("run", "slides", "--out", path), path, (done / "counts.csv").read_text())

    @pytest.mark.parametrize("change", [lambda text: MINE, lambda text: text.replace("flags", "flags,note", 1)])
    def test_run_on_table_that_was_changed_is_refused(self, cli, done, change):
        text = change((done / "counts.csv").read_text())
        path = put(done / "counts.csv", text)
        assert_refused(cli("run", "slides", "--out", "counts.csv"), path, text)

    def test_run_replaces_table_of_earlier_version_with_fewer_columns(self, cli, done):
        header, *_ = (done / "counts.csv").read_text().splitlines()
        kept = [name for name in header.split(",") if not name.startswith("immature")]
        put(done / "counts.csv", ",".join(kept) + "\n")
        assert cli("run", "slides", "--out", "counts.csv").exit_code == 0

    @pytest.mark.parametrize("name", ["Slides.csv", "SLIDES.XLSX", "slides.xlsx", "Differentials.csv"])
    def test_run_on_name_of_laboratory_table_is_refused(self, cli, folder, name):
        result = cli("run", "slides", "--out", f"slides/{name}")
        assert (result.exit_code, names("slides")) == (2, ["s10", "s2"])
        assert "is the laboratory's own table of" in result.stderr

    @pytest.mark.parametrize("kind", ["folder", "pipe", "device", "slash"])
    def test_run_on_what_is_no_file_is_refused(self, cli, folder, kind):
        path = folder / "x.csv"
        if kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
        elif kind == "device":
            path.symlink_to("/dev/null")
        before = names(folder)
        result = cli("run", "slides", "--out", "x.csv/" if kind == "slash" else "x.csv")
        assert (result.exit_code, names(folder)) == (2, before)


class TestLinks:
    def test_run_through_link_replaces_target_and_keeps_link(self, cli, folder):
        (folder / "disk").mkdir()
        (folder / "latest.csv").symlink_to("disk/2024.csv")
        for status in ("ok,2,", "partial,3,"):
            cli("run", "slides", "--out", "latest.csv")
            assert (folder / "latest.csv").readlink().as_posix() == "disk/2024.csv"
            assert f"s2,{status}" in (folder / "disk" / "2024.csv").read_text()
            assert names("disk") == ["2024.csv"]
            assert (folder / "latest" / "run.json").is_file()
            (folder / "slides" / "s2" / "bad.png").write_bytes(b"")

    def test_status_and_export_find_results_of_link(self, cli, folder):
        (folder / "disk").mkdir()
        (folder / "latest.csv").symlink_to("disk/2024.csv")
        cli("run", "slides", "--out", "latest.csv")
        assert cli("status", "latest.csv").exit_code == 0
        assert cli("export", "coco", "latest.csv").exit_code == 0
        assert (folder / "latest-coco.json").is_file()

    def test_status_finds_results_behind_link_to_their_table(self, cli, done):
        (done / "link.csv").symlink_to("counts.csv")
        assert cli("status", "link.csv").exit_code == 0

    def test_run_through_link_to_foreign_file_is_refused(self, cli, folder):
        put(folder / "t.csv")
        (folder / "link.csv").symlink_to("t.csv")
        assert_refused(cli("run", "slides", "--out", "link.csv"), folder / "link.csv")

    def test_run_through_link_into_missing_folder_does_not_make_it(self, cli, folder):
        (folder / "link.csv").symlink_to("not-mounted/t.csv")
        result = cli("run", "slides", "--out", "link.csv")
        assert result.exit_code == 1
        assert "link.csv cannot be written" in result.stderr
        assert not (folder / "not-mounted").exists()
        assert not (folder / "link").exists()

    def test_export_and_metrics_keep_links(self, cli, done):
        for link, target in (("l.json", "t.json"), ("l.prom", "t.prom")):
            put(done / target, "")
            (done / link).symlink_to(target)
        assert cli("export", "coco", "counts.csv", "--to", "l.json").exit_code == 0
        assert cli("run", "slides", "--out", "counts.csv", "--metrics", "l.prom").exit_code == 0
        assert all(path.is_symlink() and path.stat().st_size for path in (done / "l.json", done / "l.prom"))

    def test_hard_link_of_foreign_file_is_refused(self, cli, folder):
        put(folder / "t.csv")
        os.link("t.csv", "h.csv")
        assert_refused(cli("run", "slides", "--out", "h.csv"), folder / "h.csv")


class TestFolderOfResults:
    @pytest.mark.parametrize("name", ["differential.csv", "cells.csv", "report.html", "slide.json", "thumbnails.zip"])
    def test_run_over_foreign_files_of_a_slide_is_refused(self, cli, folder, name):
        path = put(folder / "counts" / "s2" / name)
        assert_refused(cli("run", "slides", "--out", "counts.csv"), path)
        assert not (folder / "counts.csv").exists()

    def test_run_does_not_write_through_linked_folder_of_a_slide(self, cli, done):
        path = put(done / "mine" / "cells.csv")
        shutil.rmtree(done / "counts" / "s2")
        (done / "counts" / "s2").symlink_to(done / "mine")
        assert_refused(cli("run", "slides", "--out", "counts.csv"), path)

    def test_run_goes_on_in_folder_of_a_slide_that_was_moved_to_another_disk(self, cli, done):
        (done / "counts" / "s2").rename(done / "disk")
        (done / "counts" / "s2").symlink_to(done / "disk")
        assert cli("run", "slides", "--out", "counts.csv", "--force").exit_code == 0

    @pytest.mark.parametrize(("name", "content"), [(".lock", "pid 7"), ("index.html", MINE), ("audit.jsonl", MINE)])
    def test_run_in_foreign_folder_with_a_lock_is_refused(self, cli, folder, name, content):
        put(folder / "counts" / ".lock", "")
        path = put(folder / "counts" / name, content)
        assert cli("run", "slides", "--out", "counts.csv").exit_code == 2
        assert path.read_text() == content

    def test_refused_device_leaves_no_folder(self, cli, folder, monkeypatch):
        from wbctool.errors import DeviceUnavailable

        def load(settings):
            raise DeviceUnavailable("no session runs on CUDA")

        monkeypatch.setattr("wbctool.cli.run.load_stages", load)
        before = names(folder)
        assert cli("run", "slides", "--out", "new/deep/a.csv").exit_code == 1
        assert names(folder) == before


class TestMetricsAndLog:
    @pytest.mark.parametrize("content", ["# HELP node_x y\n", "# HELP wbctool_x y\nnode_x 1\n", "\n"])
    def test_metrics_over_those_of_others_are_refused(self, cli, folder, content):
        result = cli("run", "slides", "--out", "a.csv", "--metrics", "m.prom")
        assert result.exit_code == 0
        path = put(folder / "m.prom", content)
        assert_refused(cli("run", "slides", "--out", "a.csv", "--metrics", "m.prom"), path, content)

    def test_metrics_are_replaced_by_those_of_next_run(self, cli, folder):
        for _ in range(2):
            assert cli("run", "slides", "--out", "a.csv", "--metrics", "m.prom").exit_code == 0

    @pytest.mark.parametrize("name", ["x.log", "x.log.1", "x.log.5"])
    def test_log_over_foreign_file_or_onto_one_when_full_is_refused(self, cli, folder, name):
        path = put(folder / name)
        assert_refused(cli("run", "slides", "--out", "a.csv", "--log-file", "x.log"), path)

    def test_log_in_place_of_metrics_is_refused(self, cli, folder):
        result = cli("run", "slides", "--out", "a.csv", "--log-file", "./m.prom", "--metrics", "m.prom")
        assert result.exit_code == 2
        assert "that is where the metrics go" in result.stderr


class TestExports:
    @pytest.mark.parametrize("kind", ["coco", "fhir"])
    @pytest.mark.parametrize("name", ["x.json", "slides/slides.csv", "lab.toml", "review.json"])
    def test_export_on_foreign_file_is_refused(self, cli, done, kind, name):
        path = put(done / name, '{"resourceType": "Bundle", "id": "1"}')
        assert_refused(cli("export", kind, "counts.csv", "--to", name), path, path.read_text())

    @pytest.mark.parametrize("kind", ["coco", "fhir"])
    def test_export_replaces_its_own_file_and_an_empty_one(self, cli, done, kind):
        pytest.importorskip("fhir.resources")
        put(done / "x.json", "")
        for _ in range(2):
            assert cli("export", kind, "counts.csv", "--to", "x.json").exit_code == 0

    @pytest.mark.parametrize("kind", ["coco", "fhir"])
    @pytest.mark.parametrize("to", ["folder", "pipe", "/dev/null", "new/"])
    def test_export_on_what_is_no_file_is_refused(self, cli, done, kind, to):
        (done / "folder").mkdir()
        os.mkfifo(done / "pipe")
        before = names(done)
        assert cli("export", kind, "counts.csv", "--to", to).exit_code == 2
        assert names(done) == before

    def test_export_over_dataset_that_a_tool_has_saved_is_refused(self, cli, done):
        cli("export", "coco", "counts.csv")
        path = done / "counts-coco.json"
        path.write_text(saved := json.dumps(json.loads(path.read_text())))
        assert_refused(cli("export", "coco", "counts.csv"), path, saved)

    def test_geojson_over_foreign_file_is_refused_before_any_is_written(self, cli, done):
        path = put(done / "g" / "s2" / "f2.png.geojson", '{"type": "FeatureCollection", "features": []}')
        assert_refused(cli("export", "geojson", "counts.csv", "--to", "g"), path, path.read_text())
        assert [p.name for p in (done / "g").rglob("*.geojson")] == ["f2.png.geojson"]

    def test_geojson_replaces_its_own_files_beside_those_of_others(self, cli, done):
        put(done / "g" / "s2" / "mine.geojson")
        for _ in range(2):
            assert cli("export", "geojson", "counts.csv", "--to", "g").exit_code == 0

    def test_schema_over_foreign_file_is_refused_before_any_is_written(self, cli, folder):
        path = put(folder / "s" / "cells.schema.json", "{}")
        assert_refused(cli("export", "schema", "--to", "s"), path, "{}")
        assert names("s") == ["cells.schema.json"]

    def test_schema_replaces_its_own_files(self, cli, folder):
        assert [cli("export", "schema", "--to", "s").exit_code for _ in range(2)] == [0, 0]


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("qc", "counts.csv", "--out", "to"), "levey-jennings.csv"),
        (("qc", "counts.csv", "--out", "to"), "levey-jennings.html"),
        (("evaluate", "slides", "--out", "to"), "evaluation.json"),
        (("evaluate", "slides", "--out", "to"), "evaluation.md"),
        (("evaluate", "slides", "--out", "to"), "confusion-mine.png"),
        (("verify", "slides", "--out", "to"), "verification.json"),
        (("verify", "slides", "--out", "to"), "verification.html"),
        (("verify", "slides", "--out", "to"), "confusion.png"),
        (("models", "optimize", "--out", "to"), "classifier.int8.json"),
        (("models", "optimize", "--out", "to"), "classifier.int8.onnx"),
        (("models", "optimize", "--out", "to"), "detector.onnx"),
    ],
)
def test_folder_with_foreign_file_of_that_name_is_refused(cli, done, command, name):
    path = put(done / "to" / name)
    assert_refused(cli(*command), path)


def test_qc_replaces_its_own_charts(cli, done):
    assert [cli("qc", "counts.csv").exit_code for _ in range(2)] == [0, 0]


class TestWorkbook:
    def test_workbook_lies_beside_table_and_folder(self, cli, folder):
        assert cli("run", "slides", "--out", "a.xlsx").exit_code == 0
        book = openpyxl.load_workbook(folder / "a.xlsx")
        rows = list(book["counts"].iter_rows(values_only=True))
        assert [row[0] for row in rows] == ["slide", "s2", "s10"]
        assert (folder / "a.csv").is_file()
        assert (folder / "a" / "run.json").is_file()
        assert book.sheetnames == ["counts", "definitions"]

    def test_workbook_follows_each_later_run(self, cli, folder):
        cli("run", "slides", "--out", "a.xlsx")
        first = (folder / "a.xlsx").read_bytes()
        cli("run", "slides", "--out", "a.xlsx", "--force")
        assert (folder / "a.xlsx").read_bytes() == first
        (folder / "slides" / "s2" / "bad.png").write_bytes(b"")
        cli("run", "slides", "--out", "a.csv")
        assert openpyxl.load_workbook(folder / "a.xlsx")["counts"]["B2"].value == "partial"

    def test_workbook_that_somebody_saved_is_refused(self, cli, folder):
        cli("run", "slides", "--out", "a.xlsx")
        book = openpyxl.load_workbook(folder / "a.xlsx")
        book["counts"]["A9"] = "seen by me"
        book.save(folder / "a.xlsx")
        saved = (folder / "a.xlsx").read_bytes()
        assert cli("run", "slides", "--out", "a.xlsx").exit_code == 2
        assert cli("run", "slides", "--out", "a.csv").exit_code == 0
        assert (folder / "a.xlsx").read_bytes() == saved
