"""`python -m benchmarks.scaling`: threads and the workers of a local cluster do the same work."""

from pathlib import Path

import pytest
from tiny_models import write_tiny_models

from benchmarks.demo_fields import copy_fields
from benchmarks.processes import ProcessMeasurement
from benchmarks.scaling import Row, format_table, measure_scaling
from wbctool.enums import Precision


def test_format_table_compares_with_the_first_of_each_kind() -> None:
    seconds = {("threads", 1): 100.0, ("threads", 4): 40.0, ("Dask", 2): 60.0, ("Dask", 4): 30.0}
    text = format_table([Row(*key, ProcessMeasurement(s, s, 400, 1000)) for key, s in seconds.items()])
    assert text.splitlines()[2:] == [
        "| 1 threads | 100.0 | 1000 | 10.0 | 1.00 | 100 % | 5.6 |",
        "| 4 threads | 40.0 | 1000 | 25.0 | 2.50 | 62 % | 2.2 |",
        "| 2 Dask | 60.0 | 1000 | 16.7 | 1.00 | 100 % | 3.3 |",
        "| 4 Dask | 30.0 | 1000 | 33.3 | 2.00 | 100 % | 1.7 |",
    ]


@pytest.mark.cluster
def test_measure_scaling_finds_the_same_cells_by_threads_and_on_a_cluster(tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    copy_fields(tmp_path / "slides", 18)
    options = ["--device", "cpu", "--models", str(write_tiny_models(tmp_path / "models"))]
    threads, cluster = measure_scaling(tmp_path, tmp_path / "slides", [1], Precision.FP32, options)
    assert (threads.kind, cluster.kind) == ("threads", "Dask")
    assert threads.measured.cells == cluster.measured.cells > 0
