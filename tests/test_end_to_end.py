"""The tool as a laboratory runs it: the shipped models and real fields, in separate processes."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from wbctool.inference.model_card import default_models_dir

pytestmark = pytest.mark.slow  # it works with the shipped models

# Runs the command `wbctool`; the last line on standard error says whether torch was imported.
COMMAND = """
import sys
from wbctool.cli import main
try:
    main()
finally:
    print("torch" in sys.modules, file=sys.stderr)
"""


def start(*args):
    command = [sys.executable, "-c", COMMAND, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wbctool(*args):
    process = start(*args)
    process.stdout_text, process.stderr_text = process.communicate(timeout=600)
    assert process.stderr_text.splitlines()[-1] == "False", "torch was imported"
    return process


def tree(out):
    folder = out.with_suffix("")
    files = [p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".") and p.name != "run.json"]
    return {str(p.relative_to(out.parent)): p.read_bytes() for p in [out, *files]}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "counts.csv"
    slides = Path(__file__).parent / "data" / "slides"
    return wbctool("run", slides, "--out", out, "--device", "cpu"), out, slides


@pytest.fixture
def two_fields(tmp_path, demo_slides):
    folder = tmp_path / "slides" / "s"
    folder.mkdir(parents=True)
    for path in sorted((demo_slides / "slide-03").iterdir())[:2]:
        shutil.copy(path, folder)
    return folder.parent


@pytest.fixture
def altered(tmp_path):
    """A copy of the models, the detector's file altered by a byte, and the two hashes."""
    folder = tmp_path / "models"
    shutil.copytree(default_models_dir(), folder, ignore=shutil.ignore_patterns("training"))
    card = json.loads((folder / "detector.json").read_text())
    content = bytearray((folder / card["file"]).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / card["file"]).write_bytes(content)
    return folder, card["file"], card["sha256"], hashlib.sha256(content).hexdigest()


def test_run_on_demo_slides_counts_every_cell(demo):
    process, out, slides = demo
    assert process.returncode == 0
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(r["slide"], r["status"], r["fields"]) for r in rows] == [(f"slide-0{i}", "ok", "8") for i in (1, 2, 3)]
    for row in rows:
        assert int(row["cells"]) == sum(int(row[c]) for c in ("counted", "review", "not_wbc")) > 0
        with (out.with_suffix("") / row["slide"] / "cells.csv").open(newline="") as lines:
            cells = list(csv.DictReader(lines))
        assert len(cells) == int(row["cells"])
        assert {cell["field"] for cell in cells} <= {path.name for path in (slides / row["slide"]).iterdir()}
        width, height = (160, 120) if row["slide"] == "slide-03" else (640, 480)
        for cell in cells:
            assert 0 <= int(cell["x"]) < int(cell["x"]) + int(cell["width"]) <= width
            assert 0 <= int(cell["y"]) < int(cell["y"]) + int(cell["height"]) <= height
            of_classes = sum(float(cell[c]) for c in cell if c.startswith("p_"))  # less than 1 by other kinds' share
            assert 0.5 <= of_classes <= 1.001
        small = {cell["super_resolved"] for cell in cells if max(int(cell["width"]), int(cell["height"])) < 50}
        assert small == ({"true"} if row["slide"] == "slide-03" else set())


def test_run_json_names_what_really_ran(demo):
    _, out, _ = demo
    manifest = json.loads((out.with_suffix("") / "run.json").read_text())
    assert (manifest["provider"], manifest["device"]) == ("CPUExecutionProvider", "cpu")
    assert len(manifest["models"]) == 4
    for name, sha256 in manifest["models"].items():
        assert hashlib.sha256((default_models_dir() / name).read_bytes()).hexdigest() == sha256
        assert sha256 in (out.with_suffix("") / "slide-01" / "report.html").read_text()


def test_second_run_finds_all_up_to_date(demo):
    _, out, slides = demo
    before = tree(out)
    again = wbctool("run", slides, "--out", out, "--device", "cpu")
    assert again.returncode == 0
    assert again.stdout_text.count("(up to date)") == 3
    assert tree(out) == before


def test_workers_batch_size_and_other_slides_change_no_byte(demo, demo_slides, tmp_path):
    """slide-03 alone, cell by cell, gives the same results as among other slides."""
    _, out, _ = demo
    shutil.copytree(demo_slides / "slide-03", tmp_path / "slides" / "slide-03")
    alone = tmp_path / "counts.csv"
    args = ("--device", "cpu", "--workers", "4", "--batch-size", "1")
    assert wbctool("run", tmp_path / "slides", "--out", alone, *args).returncode == 0
    together = {name: content for name, content in tree(out).items() if "slide-03" in name}
    assert {name: content for name, content in tree(alone).items() if "slide-03" in name} == together
    assert alone.read_text().splitlines()[1] == out.read_text().splitlines()[3]


def test_second_run_on_a_locked_output_exits_5(two_fields, tmp_path):
    args = ("run", two_fields, "--out", tmp_path / "counts.csv", "--device", "cpu")
    racing = [start(*args), start(*args)]
    messages = [process.communicate(timeout=600)[1] for process in racing]
    assert sorted(process.returncode for process in racing) == [0, 5]
    assert sum("is in use by another run" in text for text in messages) == 1


def test_altered_model_is_refused(two_fields, tmp_path, altered):
    folder, name, expected, actual = altered
    done = wbctool("run", two_fields, "--out", tmp_path / "counts.csv", "--models", folder)
    assert done.returncode == 1
    assert all(part in done.stderr_text for part in (name, expected, actual))
    assert not (tmp_path / "counts.csv").exists()
    assert wbctool("models", "verify", "--models", folder).returncode == 1


def test_device_cuda_runs_on_cuda_or_fails(two_fields, tmp_path):
    done = wbctool("run", two_fields, "--out", tmp_path / "counts.csv", "--device", "cuda")
    if done.returncode == 0:
        manifest = json.loads((tmp_path / "counts" / "run.json").read_text())
        assert manifest["provider"] == "CUDAExecutionProvider"
    else:
        assert done.returncode == 1
        assert done.stderr_text.startswith("wbctool: --device cuda: no session runs on CUDA: ")
        assert not (tmp_path / "counts.csv").exists()


def test_models_and_doctor_find_no_problem():
    listed, verified, examined = wbctool("models", "list"), wbctool("models", "verify"), wbctool("doctor", "--json")
    assert [line.split()[0] for line in listed.stdout_text.splitlines()] == [
        "classifier",
        "compact",
        "detector",
        "generator",
    ]
    assert (verified.returncode, set(verified.stdout_text.split()[1::2])) == (0, {"ok"})
    assert examined.returncode == 0
    assert json.loads(examined.stdout_text)["ok"] is True


def test_evaluate_without_labels_fails_with_a_message(tmp_path):
    done = wbctool("evaluate", tmp_path)
    assert done.returncode == 1
    assert done.stderr_text.startswith("wbctool: ")
