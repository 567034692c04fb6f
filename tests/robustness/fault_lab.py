"""Real runs of the installed command, in processes that a test can kill, crowd and starve.

`make test` runs a short form; `make fault` runs all of it (pytest --long) and prints what was tried.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from wbctool.cli.run import run_with_settings
from wbctool.enums import Device
from wbctool.settings import load_settings

RUN = [sys.executable, "-m", "wbctool", "run"]


@dataclass(frozen=True)
class Lab:
    """A folder of slides, tiny models, and the command."""

    slides: Path
    models: Path

    def command(self, out: Path, *options: str) -> list[str]:
        return [*RUN, str(self.slides), "--out", str(out), "--models", str(self.models), "--device", "cpu", *options]

    def start(self, out: Path, *options: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        return subprocess.Popen(
            self.command(out, *options),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            env=environment,
        )

    def run(self, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
        process = self.start(out, *options)
        stdout, stderr = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)

    def run_here(self, out: Path, **options: object) -> int:
        """Run in this process, which takes seconds less to start, and return the exit code."""
        flags = {"slides": self.slides, "out": out, "models_dir": self.models, "device": Device.CPU, "quiet": True}
        return run_with_settings(load_settings({**flags, **options}))


def published(out: Path) -> dict[str, bytes]:
    """Every file that a run published, by its path, but those that say when it ran."""
    leave = {"run.json", ".lock", ".lock-holder.json", ".seen.json"}
    files = [path for path in out.with_suffix("").rglob("*") if path.is_file() and path.name not in leave]
    return {str(p.relative_to(out.parent)): p.read_bytes() for p in [*([out] if out.exists() else []), *files]}
