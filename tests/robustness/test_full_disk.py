"""A disk that fills up: exit 1, earlier results intact, and the next run completes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_lab import Lab, published

OF_ALL_SLIDES = {"counts.csv", "counts/index.html"}  # they say which slides the stopped run left waiting


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    mount = tmp_path / "disk"
    mount.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(mount)], capture_output=True)
    if made.returncode != 0:
        pytest.skip(f"this user may not mount a file system: {made.stderr.decode().strip()}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_full_disk_stops_the_run_and_keeps_results(lab: Lab, fill, small_disk: Path, tmp_path: Path, report) -> None:
    fill(3, 2)
    out = small_disk / "counts.csv"
    assert lab.run_here(out) == 0
    before = published(out)

    fill(12, 2)
    ballast = small_disk / "ballast"
    free = free_bytes(small_disk)
    ballast.write_bytes(bytes(free - 60_000))
    full = lab.run(out)
    assert full.returncode == 1
    assert "No space left on device" in full.stderr
    assert "Traceback" not in full.stderr
    after = {name: content for name, content in published(out).items() if "/.tmp-" not in name}
    complete = tmp_path / "complete" / "counts.csv"
    assert lab.run_here(complete) == 0
    reference = published(complete)
    of_slides = {name for name in after if name not in OF_ALL_SLIDES}
    assert {name: after[name] for name in before if name not in OF_ALL_SLIDES} == {
        name: content for name, content in before.items() if name not in OF_ALL_SLIDES
    }
    assert all(after[name] == reference[name] for name in of_slides)
    assert after["counts.csv"].endswith(b"\n")
    assert after["counts/index.html"].rstrip().endswith(b"</html>")

    ballast.unlink()
    assert lab.run_here(out) == 0
    assert published(out) == reference
    report(f"full disk: exit 1, {len(before)} earlier files intact, {len(reference)} files after the next run")


def test_full_disk_does_not_half_replace_a_slide(lab: Lab, fill, small_disk: Path) -> None:
    fill(1, 2)
    out = small_disk / "counts.csv"
    assert lab.run_here(out) == 0
    before = published(out)
    assert len(before["counts/slide-000/report.html"]) > 60_000

    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(free_bytes(small_disk) - 60_000))
    full = lab.run(out, "--adult")  # the table and the report would change
    assert full.returncode == 1
    assert "report.html cannot be written: No space left on device" in full.stderr
    after = published(out)
    assert {name: text for name, text in after.items() if name not in OF_ALL_SLIDES} == {
        name: text for name, text in before.items() if name not in OF_ALL_SLIDES
    }

    ballast.unlink()
    assert lab.run_here(out, adult=True) == 0
    after = published(out)
    changed = {name.rpartition("/")[2] for name in before if after[name] != before[name]}
    assert {"differential.csv", "report.html", "slide.json"} <= changed


def free_bytes(folder: Path) -> int:
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
