"""Where a run may write: what is refused before the first slide, and what goes on."""

import pytest

from wbctool.errors import OutputNotWritable, SettingsInvalid
from wbctool.paths import OutputPaths, temp_path_for
from wbctool.pipeline.preflight import (
    check_metrics,
    check_output_location,
    check_tables_writable,
    contains_run_outputs,
)
from wbctool.settings import load_settings
from wbctool.store.atomic_write import write_atomic


@pytest.fixture
def settings(tmp_path):
    def made(**flags):
        return load_settings({"slides": tmp_path / "slides", "out": tmp_path / "c.csv", **flags})

    return made


def apart(made):
    check_output_location(OutputPaths(made.out), made)


@pytest.mark.parametrize("name", ["index.html", "run.json", "audit.jsonl", "qc-history.csv"])
def test_check_output_location_refuses_a_folder_of_foreign_files(settings, tmp_path, name):
    write_atomic(tmp_path / "c" / name, b"mine")
    with pytest.raises(SettingsInvalid, match=r"c\.csv: the results would go into .*/c, which holds files"):
        apart(settings())


def test_check_output_location_refuses_a_link_to_such_a_folder(settings, tmp_path):
    write_atomic(tmp_path / "else" / "index.html", b"mine")
    (tmp_path / "c").symlink_to(tmp_path / "else")
    with pytest.raises(SettingsInvalid, match="which holds files"):
        apart(settings())


@pytest.mark.parametrize(
    "there", ["nothing", "a folder", "a lock", "a manifest", "what a kill leaves", "notes", "a file"]
)
def test_check_output_location_accepts_a_folder_of_results(settings, tmp_path, there):
    folder = tmp_path / "c"
    if there == "a file":  # that it is in the way is told where the folder is made
        folder.write_text("")
    elif there != "nothing":
        folder.mkdir()
    if there == "a lock":  # of a run that was killed before it wrote its manifest
        (folder / ".lock").touch()
        write_atomic(folder / "s1" / "cells.csv", b"")
    elif there == "a manifest":  # copied without its hidden files
        write_atomic(folder / "run.json", b'{\n "schema": "wbctool-run/1",\n')
        write_atomic(folder / "s1" / "cells.csv", b"")
    elif there == "what a kill leaves":
        temp_path_for(folder / "m.prom").touch()
    elif there == "notes":  # nothing that a run would write over
        write_atomic(folder / "logs" / "run.log", b"")
        write_atomic(folder / ".DS_Store", b"")
    apart(settings())


@pytest.mark.parametrize("field", ["slides/f.png", "slides/s1/f.JPG", "slides/s1/deep/f.tif"])
def test_check_output_location_refuses_the_folder_of_slides(settings, tmp_path, field):
    write_atomic(tmp_path / field, b"")
    out = "slides.csv" if field == "slides/f.png" else "slides/s1.csv"
    with pytest.raises(SettingsInvalid, match="which holds the slides"):
        apart(settings(out=tmp_path / out))
    apart(settings(out=tmp_path / "slides" / "counts.csv"))


def test_check_tables_writable_raises_if_the_table_cannot_be_written(settings, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputNotWritable, match=r"c\.csv cannot be written: Not a directory"):
        check_tables_writable(OutputPaths(tmp_path / "file" / "c.csv"))
    with pytest.raises(OutputNotWritable, match=r"c\.xlsx cannot be written: Not a directory"):
        check_tables_writable(OutputPaths(tmp_path / "c.csv", tmp_path / "file" / "c.xlsx"))


@pytest.mark.parametrize("name", ["c.csv", "c/s1/m.prom", "c/m.prom"])
def test_check_metrics_refuses_a_place_among_the_results(tmp_path, name):
    with pytest.raises(SettingsInvalid, match="that is where the results go"):
        check_metrics(OutputPaths(tmp_path / "c.csv"), tmp_path / name)


def test_check_tables_writable_leaves_no_file(tmp_path):
    write_atomic(tmp_path / "c.csv", b"as it was")
    check_tables_writable(OutputPaths(tmp_path / "c.csv"))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("c.csv", b"as it was")]


def test_contains_run_outputs_names_the_folders_that_a_run_writes_to(settings, tmp_path, monkeypatch):
    slides = tmp_path / "slides"
    (slides / "s1").mkdir(parents=True)
    (tmp_path / "link").symlink_to(slides)
    made = settings(out=tmp_path / "link" / "c.csv", metrics=slides / "s1" / "m.prom")
    assert [contains_run_outputs(folder, made) for folder in (slides, slides / "s1", tmp_path)] == [True, True, False]
    monkeypatch.chdir(slides)
    assert contains_run_outputs(slides, settings(out=type(slides)("c.csv")))
