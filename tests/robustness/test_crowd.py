"""Many processes on one output, and many workers in one process."""

from __future__ import annotations

import signal
import time

from fault_lab import Lab, published

from wbctool.paths import OutputPaths
from wbctool.store.lock import read_holder


def test_of_processes_on_one_output_all_but_one_exit_5(lab: Lab, fill, tmp_path, report, long: bool) -> None:
    n_processes = 8 if long else 3
    fill(3, 10)
    alone, out = tmp_path / "alone" / "counts.csv", tmp_path / "shared" / "counts.csv"
    assert lab.run_here(alone) == 0
    started = {process.pid: process for process in [lab.start(out) for _ in range(n_processes)]}
    while (holder := read_holder(OutputPaths(out))) is None:
        time.sleep(0.005)
    winner = started.pop(holder.pid)
    winner.send_signal(signal.SIGSTOP)  # so that it has not ended when the slowest of the others begins
    try:
        refusals = [process.communicate(timeout=600)[1] for process in started.values()]
    finally:
        winner.send_signal(signal.SIGCONT)
    winner.communicate(timeout=600)
    codes = [winner.returncode, *(process.returncode for process in started.values())]
    report(f"{n_processes} processes at once: exit codes {codes}")
    assert codes == [0] + [5] * (n_processes - 1)
    assert all(f"is in use by another run (process {winner.pid} on " in refusal for refusal in refusals)
    assert published(out) == published(alone)


def test_one_worker_and_four_give_the_same_bytes(lab: Lab, fill, tmp_path, report, long: bool) -> None:
    fill(6, 10 if long else 5)
    (lab.slides / "slide-002" / "field-004.jpg").write_bytes(b"broken")
    one, four = tmp_path / "one" / "counts.csv", tmp_path / "four" / "counts.csv"
    assert lab.run_here(one, workers=1) == 3
    assert lab.run_here(four, workers=4, batch_size=7) == 3
    assert published(one) == published(four)
    report(f"1 worker and 4 workers: {len(published(one))} files, byte for byte the same")
