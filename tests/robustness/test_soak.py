"""Memory stays flat, whatever the number of slides and fields."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from statistics import mean

import pytest
from fault_lab import Lab

SAMPLE_EVERY_S = 0.2


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_resident_memory_stays_flat(lab: Lab, demo_slides: Path, tmp_path: Path, report, long: bool) -> None:
    slides, fields_each = (400, 50) if long else (12, 20)
    images = [
        Path(shutil.copy(path, tmp_path / f"{k}.jpg")) for k, path in enumerate(sorted(demo_slides.glob("*/*.jpg")))
    ]
    for slide in range(slides):
        folder = lab.slides / f"slide-{slide:04d}"
        folder.mkdir(parents=True)
        for field in range(fields_each):
            os.link(images[(slide + field) % len(images)], folder / f"{field:04d}.jpg")
    began = time.monotonic()
    process = lab.start(tmp_path / "counts.csv", "--quiet")
    samples = []
    while process.poll() is None:
        samples.append(resident_mb(process.pid))
        time.sleep(SAMPLE_EVERY_S)
    elapsed_s = time.monotonic() - began
    assert process.wait() == 0, process.communicate()
    samples = [sample for sample in samples if sample]
    tenth = len(samples) // 10
    settled = tenth if long else len(samples) // 2  # a short run is mostly start-up, the longer the busier the machine
    early, last = mean(samples[settled : settled + tenth]), mean(samples[-tenth:])
    report(
        f"{slides * fields_each} fields in {elapsed_s:.0f} s: resident memory {early:.0f} MB once settled, "
        f"{last:.0f} MB in the last, at most {max(samples):.0f} MB"
    )
    # In a short run the bound only catches a leak of the size of the fields.
    assert last <= (1.05 if long else 1.25) * early


def resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
