"""kill -9 at random moments: nothing is lost, counted twice or half-written."""

from __future__ import annotations

import csv
import io
import random
import signal
import time

from fault_lab import Lab, published

SEED = 20241123


def test_kill_9_loses_duplicates_and_tears_nothing(lab: Lab, fill, tmp_path, report, long: bool) -> None:
    kills_wanted, slides = (50, 30) if long else (4, 6)
    fill(slides, 3)
    began = time.monotonic()
    assert lab.run(tmp_path / "reference" / "counts.csv").returncode == 0
    whole_run_s = time.monotonic() - began
    reference = published(tmp_path / "reference" / "counts.csv")

    rng, kills, rounds = random.Random(SEED), 0, 0
    lost = duplicated = half_written = 0
    while kills < kills_wanted:
        rounds += 1
        out = tmp_path / f"round-{rounds}" / "counts.csv"
        for _ in range(4):  # a run that is killed again and again, then left alone
            process = lab.start(out)
            time.sleep(rng.uniform(0.1, 1.0) * whole_run_s)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += process.returncode == -signal.SIGKILL
            half_written += half_written_files(published(out), reference)
        assert lab.run_here(out) == 0
        after = published(out)
        names = [row["slide"] for row in csv.DictReader(io.StringIO(after["counts.csv"].decode()))]
        lost += slides - len(set(names))
        duplicated += len(names) - len(set(names))
        assert after == reference
    report(
        f"{kills} kills in {rounds} runs of {slides} slides: {lost} slides lost, {duplicated} counted twice, "
        f"{half_written} files half-written; every last run byte for byte as the undisturbed one"
    )
    assert kills >= kills_wanted
    assert lost == duplicated == half_written == 0


def half_written_files(found: dict[str, bytes], reference: dict[str, bytes]) -> int:
    """Files under their final names that are not, byte for byte, what an undisturbed run writes.

    counts.csv alone may be of an earlier moment: it must be whole. Temporary names are not results.
    """
    bad = 0
    for name, content in found.items():
        if "/.tmp-" in f"/{name}":
            continue
        if name == "counts.csv":
            bad += not content.endswith(b"\n") or content.count(b"\n") != reference[name].count(b"\n")
        else:
            bad += content != reference[name]
    return bad


def test_stop_signal_is_obeyed_within_ten_seconds(lab: Lab, fill, tmp_path) -> None:
    fill(12, 20)
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = lab.start(tmp_path / number.name / "counts.csv")
        assert process.stdout is not None
        process.stdout.readline()  # the first slide is done: it is in the midst of its work
        asked = time.monotonic()
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == code
        assert time.monotonic() - asked < 10
        rows = list(csv.DictReader((tmp_path / number.name / "counts.csv").open()))
        assert len(rows) == 12
        assert {row["status"] for row in rows} == {"ok", "waiting"}
