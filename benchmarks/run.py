"""`make bench`: how long `wbctool run` takes on copies of the demo fields, start to end.

Prints one line: fields, cells, provider, seconds, fields and cells a second. Every run is a fresh process on a fresh
output.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DEMO = Path(__file__).parent.parent / "tests" / "data" / "slides"
_FIELDS_A_SLIDE = 25


def main() -> None:
    """Read the options, run, print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--fields", type=int, default=100)
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--super-resolve", default="auto", choices=["auto", "always", "never"])
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        slides = Path(folder) / "slides"
        copy_fields(slides, chosen.fields)
        outcomes = [run_once(slides, Path(folder) / f"out-{n}", chosen.super_resolve) for n in range(chosen.runs)]
    seconds = statistics.median(s for s, _ in outcomes)
    manifest = outcomes[0][1]
    cells = sum(int(slide["cells"]) for slide in manifest["slides"])
    what = f"{chosen.fields} fields, {cells} cells, --super-resolve {chosen.super_resolve}, {manifest['provider']}"
    rates = f"{chosen.fields / seconds:.1f} fields/s, {cells / seconds:.1f} cells/s"
    print(f"{what}: {seconds:.1f} s (median of {chosen.runs}), {rates}")


def copy_fields(slides: Path, number: int) -> None:
    """``number`` fields in slides of 25: the demo's, over and over."""
    demo = sorted(DEMO.glob("slide-0[12]/*.jpg"))
    for index in range(number):
        target = slides / f"slide-{index // _FIELDS_A_SLIDE:04d}" / f"field-{index:05d}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(demo[index % len(demo)], target)


def run_once(slides: Path, out: Path, super_resolve: str) -> tuple[float, dict]:  # type: ignore[type-arg]
    """(seconds of the whole process, its run.json)."""
    command = [sys.executable, "-m", "wbctool", "run", str(slides), "--out", str(out / "counts.csv")]
    out.mkdir()
    start = time.perf_counter()
    subprocess.run([*command, "--super-resolve", super_resolve, "--quiet"], check=True)
    seconds = time.perf_counter() - start
    return seconds, json.loads((out / "counts" / "run.json").read_text())


if __name__ == "__main__":
    main()
