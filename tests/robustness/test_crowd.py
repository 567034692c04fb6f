"""Many processes on one output, and many workers in one process."""

from __future__ import annotations

import pytest
from fault_lab import Lab, published


@pytest.mark.parametrize("processes", [2, 8])
def test_of_processes_on_one_output_all_but_one_exit_5(lab: Lab, fill, tmp_path, report, processes: int) -> None:
    fill(10, 30)
    alone = tmp_path / "alone" / "counts.csv"
    assert lab.run(alone).returncode == 0
    out = tmp_path / "shared" / "counts.csv"
    started = [lab.start(out) for _ in range(processes)]
    ended = [(process.communicate(timeout=600)[1], process.returncode) for process in started]
    codes = sorted(code for _, code in ended)
    report(f"{processes} processes at once: exit codes {codes}")
    assert codes == [0] + [5] * (processes - 1)
    winner = next(process.pid for process, (_, code) in zip(started, ended, strict=True) if code == 0)
    for message, code in ended:
        if code == 5:
            assert f"is in use by another run (process {winner} on " in message
    assert published(out) == published(alone)


def test_one_worker_and_four_give_the_same_bytes(lab: Lab, fill, tmp_path, report) -> None:
    fill(6, 10)
    (lab.slides / "slide-002" / "field-004.jpg").write_bytes(b"broken")
    one, four = tmp_path / "one" / "counts.csv", tmp_path / "four" / "counts.csv"
    assert lab.run(one, "--workers", "1").returncode == 3
    assert lab.run(four, "--workers", "4", "--batch-size", "7").returncode == 3
    assert published(one) == published(four)
    report(f"1 worker and 4 workers: {len(published(one))} files, byte for byte the same")
