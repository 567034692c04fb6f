"""`python -m benchmarks.modest_device`: its limits, and a row for each reader."""

import os
import resource
from functools import partial
from pathlib import Path

import pytest
from tiny_models import write_tiny_models

from benchmarks.demo_fields import copy_fields
from benchmarks.modest_device import Row, format_table, limit_process, measure_readers
from benchmarks.processes import ProcessMeasurement, time_process
from wbctool.enums import Readers

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux")


def test_limit_process_limits_the_process_that_is_started_and_no_other() -> None:
    before = os.sched_getaffinity(0), resource.getrlimit(resource.RLIMIT_DATA), os.environ.get("OMP_NUM_THREADS")
    ask = "import os, resource; print(len(os.sched_getaffinity(0)), resource.getrlimit(resource.RLIMIT_DATA)[0])"
    limit = partial(limit_process, 900)
    *_, output = time_process(["-c", f"{ask}; print(os.environ['OMP_NUM_THREADS'])"], limit)
    assert output.split() == ["1", str(900 * 2**20), "1"]
    with pytest.raises(SystemExit):
        time_process(["-c", "bytearray(10**9)"], limit)
    assert before == (
        os.sched_getaffinity(0),
        resource.getrlimit(resource.RLIMIT_DATA),
        os.environ.get("OMP_NUM_THREADS"),
    )


def test_measure_readers_runs_each_reader_alone_and_both(tmp_path: Path) -> None:
    copy_fields(tmp_path / "slides", 2)
    rows = list(measure_readers(tmp_path, write_tiny_models(tmp_path / "models"), 1024))
    assert [(row.readers, row.precision) for row in rows] == [
        (Readers.COMPACT, "fp32"),
        (Readers.VGG19, "fp32"),
        (Readers.BOTH, "fp32"),
    ]
    assert all(row.measured.seconds > 0 for row in rows)
    assert rows[2].readers_mb == pytest.approx(rows[0].readers_mb + rows[1].readers_mb)
    assert all(row.models_mb > row.readers_mb > 0 for row in rows)


def test_format_table_has_cells_a_second() -> None:
    row = Row(Readers.COMPACT, "int8", ProcessMeasurement(8.0, 7.5, 410.2, 100), 1.8, 8.9)
    assert format_table([row]).splitlines()[2] == "| compact | int8 | 100 | 8.0 | 12.5 | 410 | 1.8 | 8.9 |"
