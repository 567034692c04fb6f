"""The words of each command: its help and typical errors, one golden file a command.

After a change of words, `pytest tests/cli/test_golden.py --update-golden` writes the files anew.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from wbctool.cli import main

GOLDEN = Path(__file__).parent / "golden"
COMMANDS = {
    "wbctool": ["--help", "-h", "no-such-command", "run '' --out a.csv", "run slides --out a.csv --models="],
    "run": [
        "--help",
        "slides",
        "slides --out a.txt",
        "slides --out a.csv --workers 0",
        "slides --out a.csv --workers abc",
        "slides --out a.csv --cells 0",
        "slides --out a.csv --device gpu",
        "slides --out slides/slides.csv",
        "slides --out other.csv",
        "slides --out new.csv/",
        "slides --out a.csv --log-file other.csv",
        "slides --out a.csv --metrics a.csv",
        "slides --out a.csv --log-file a.csv",
        "slides --out a.csv --config gone.toml",
        "slides --out a.csv --config former.toml",
        "slides --out a.csv --config unknown.toml",
        "slides --out a.csv --config range.toml",
        "slides --out a.csv",
        "gone --out a.csv",
    ],
    "status": ["--help", "a.csv", "a.csv --max-age -1"],
    "qc": ["--help", "a.csv"],
    "train": ["--help", "--start-from old", "--leave-out pbc", "--recipe calibrate", "--compare", "--ablate"],
    "calibrate": ["--help", ""],
    "evaluate": ["--help", "data --strangers 3", "data --split held-back", "data --split=held-back"],
    "verify": ["--help", "cells"],
    "adapt": ["--help", "nothing --out lab-models", "a.csv labels.json --out lab-models"],
    "label": [
        "--help",
        "a.csv",
        "a.csv --cells 2",
        "a.csv --to other.csv",
        "a.csv labels.json",
        "a.csv --without gone.json",
    ],
    "doctor": ["--help"],
    "models": [
        "--help",
        "list --help",
        "list --models empty",
        "verify --help",
        "verify --models empty",
        "verify --models former",
        "optimize --help",
        "stain-reference --help",
        "colours data",
    ],
    "export": [
        "--help",
        "geojson --help",
        "geojson a.csv",
        "geojson a.csv --to a/x",
        "coco --help",
        "fhir --help",
        "schema --help",
        "coco a.csv --to other.csv",
        "coco a.csv --to empty",
    ],
    "review": ["--help", "apply --help", "apply a.csv review.json", "verify --help", "verify a.csv"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the errors are about, in which the commands run."""
    for name in ("slides", "empty", "former"):
        (tmp_path / name).mkdir()
    (tmp_path / "other.csv").write_text("slide,neutrophil\na,12\n")
    (tmp_path / "former.toml").write_text("min_counted = 50\n")
    (tmp_path / "unknown.toml").write_text("wrokers = 2\n")
    (tmp_path / "range.toml").write_text("[reference_ranges]\nmonocyte = [9, 0]\n")
    (tmp_path / "former" / "detector.json").write_text('{"kind": "detector", "glance_px": 256}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    return tmp_path.resolve()


@pytest.mark.parametrize("name", COMMANDS)
def test_words_of_command_are_those_of_golden_file(
    name: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    words = ""
    for arguments in COMMANDS[name]:
        command = " ".join(part for part in ("wbctool", name if name != "wbctool" else "", arguments) if part)
        monkeypatch.setattr("sys.argv", shlex.split(command))
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        output = (captured.out + captured.err).replace(f"{folder}/", "FOLDER/")
        words += f"$ {command}\n{output}[exit code {int(end.value.code or 0)}]\n\n"
    path = GOLDEN / f"{name}.txt"
    if request.config.getoption("--update-golden"):
        path.write_text(words, encoding="utf-8")
    assert words == path.read_text(encoding="utf-8")


def test_each_golden_file_is_of_a_command() -> None:
    assert sorted(path.stem for path in GOLDEN.iterdir()) == sorted(COMMANDS)
