"""Each kind of bad input by itself, and all of them in one run: none stops another slide."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess

import fakes
import pytest
from bad_input import KINDS, Kind
from fault_lab import Lab

GOOD = "good.png"


def cannot_be_tried(kind: Kind) -> bool:
    return kind.needs_user and os.geteuid() == 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_bad_input_of_one_kind_fails_alone(run, real_jpeg, kind: Kind) -> None:
    if cannot_be_tried(kind):
        pytest.skip("the superuser may read everything")
    odd = run.root / "odd"
    fakes.draw_field(odd / GOOD, ["neutrophil"])
    kind.make(odd, real_jpeg.read_bytes())
    assert run() == (3 if kind.cause else 0)
    rows = run.rows()
    assert {rows[slide]["status"] for slide in ("s2", "s10")} == {"ok"}
    assert rows["odd"]["status"] == ("partial" if kind.cause else "ok")
    assert rows["odd"]["fields"] == str(1 + kind.fields)
    errors = next(
        s["errors"] for s in json.loads((run.folder / "run.json").read_text())["slides"] if s["slide"] == "odd"
    )
    assert len(errors) == bool(kind.cause)
    if kind.cause:
        assert re.search(kind.cause, errors[0]["cause"]), errors[0]["cause"]
        assert errors[0]["stage"] == "read"


def test_bad_input_of_all_kinds_stops_no_other_slide(lab: Lab, fill, real_jpeg, tmp_path, report) -> None:
    fill(3, 2)
    kinds = [kind for kind in KINDS if not cannot_be_tried(kind)]
    for number, kind in enumerate(kinds):
        folder = lab.slides / f"odd-{number:02d}"
        folder.mkdir()
        (folder / "good.jpg").write_bytes(real_jpeg.read_bytes())
        kind.make(folder, real_jpeg.read_bytes())
    out = tmp_path / "counts.csv"
    done = lab.run(out, "--settle", "0")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "\x1b[2J" not in done.stdout + done.stderr
    with out.open(newline="") as lines:
        rows = {row["slide"]: row for row in csv.DictReader(lines)}
    assert [row["status"] for name, row in rows.items() if name.startswith("slide-")] == ["ok"] * 3
    for number, kind in enumerate(kinds):
        row = rows[f"odd-{number:02d}"]
        assert (row["status"], row["fields_failed"]) == (("partial", "1") if kind.cause else ("ok", "0")), kind.name
    refused = sum(kind.cause is not None for kind in kinds)
    report(f"{len(kinds)} kinds of bad input in one run: {refused} refused by name, the others read or left alone")


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="the superuser may read everything")
def test_unlistable_slides_exit_with_no_images(lab: Lab, fill, tmp_path) -> None:
    fill(1, 1)
    lab.slides.chmod(0)
    command = lab.command(tmp_path / "counts.csv")
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, capture_output=True, text=True)
    lab.slides.chmod(0o755)
    assert done.returncode == 4, done.stderr


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="the superuser may read everything")
def test_unreadable_file_fails_its_field(lab: Lab, fill, tmp_path) -> None:
    fill(2, 2)
    (lab.slides / "slide-000" / "field-000.jpg").chmod(0)
    command = lab.command(tmp_path / "counts.csv")
    if os.geteuid() == 0:  # even the superuser is refused without these two
        command = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 3
    assert "slide 'slide-000', field 'field-000.jpg', read: cannot be read: Permission denied" in done.stderr
    with (tmp_path / "counts.csv").open(newline="") as lines:
        assert [row["status"] for row in csv.DictReader(lines)] == ["partial", "ok"]
