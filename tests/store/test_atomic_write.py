import errno
import os
from pathlib import Path

import pytest

from wbctool.errors import OutputLocked, OutputNotWritable
from wbctool.paths import OutputPaths, temp_path_for
from wbctool.store.atomic_write import write_atomic, write_atomic_group, write_json_atomic
from wbctool.store.lock import lock_output, remove_stale_temp_files


def test_write_atomic_creates_folder_and_replaces_file(tmp_path):
    path = tmp_path / "a" / "b.csv"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["b.csv"]


def test_write_atomic_full_disk_keeps_old_file(tmp_path, monkeypatch):
    path = tmp_path / "b.csv"
    write_atomic(path, b"old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputNotWritable, match=r"b\.csv cannot be written: No space left on device"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["b.csv"]


def test_write_atomic_file_in_place_of_folder_is_not_writable(tmp_path):
    (tmp_path / "a").write_text("in the way")
    with pytest.raises(OutputNotWritable, match="cannot be written"):
        write_atomic(tmp_path / "a" / "b.csv", b"new")


def test_write_json_atomic_keeps_names_that_are_not_utf8(tmp_path):
    write_json_atomic(tmp_path / "x.json", {"slide": "smear\udcff"})
    assert b"smear\\udcff" in (tmp_path / "x.json").read_bytes()


def test_remove_stale_temp_files_removes_only_ours(tmp_path):
    output, other = OutputPaths(tmp_path / "counts.csv"), OutputPaths(tmp_path / "other.csv")
    left = [temp_path_for(output.counts_csv), temp_path_for(output.slide_file("a/b", "cells.csv"))]
    kept = [temp_path_for(other.counts_csv), output.slide_file("a/b", "cells.csv"), tmp_path / ".tmp-mine"]
    kept.append(left[0].with_name(f"{left[0].name}.bak"))
    left.append(output.folder / "a" / ".tmp-of-whatever")  # in a folder of results nobody else makes such
    for path in left + kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    remove_stale_temp_files(output)
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_lock_output_is_released_at_end_and_after_error(tmp_path):
    output = OutputPaths(tmp_path / "counts.csv")
    with pytest.raises(RuntimeError), lock_output(output):
        raise RuntimeError
    with lock_output(output):
        assert output.lock_holder_json.exists()
    assert not output.lock_holder_json.exists()


def in_child(work):
    """Fork; the child does ``work`` and ends with its return value. Returns the child's process id."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return pid


def test_lock_output_second_process_is_refused_naming_the_holder(tmp_path):
    output = OutputPaths(tmp_path / "counts.csv")
    held, (read, write) = os.pipe(), os.pipe()

    def child():
        with lock_output(output):
            os.write(held[1], b"x")
            os.read(read, 1)
        return 0

    pid = in_child(child)
    os.read(held[0], 1)
    with (
        pytest.raises(OutputLocked, match=rf"counts\.csv is in use by another run \(process {pid} on "),
        lock_output(output),
    ):
        pass
    os.write(write, b"x")
    assert os.waitpid(pid, 0)[1] == 0
    with lock_output(output):
        pass


def test_lock_output_killed_process_releases(tmp_path):
    output = OutputPaths(tmp_path / "counts.csv")

    def child():
        with lock_output(output):
            os.kill(os.getpid(), 9)
        return 0

    assert os.waitpid(in_child(child), 0)[1] == 9
    with lock_output(output):
        pass


def test_lock_output_csv_is_a_folder_is_not_writable(tmp_path):
    (tmp_path / "counts.csv").mkdir()
    with pytest.raises(OutputNotWritable, match="it is a folder"), lock_output(OutputPaths(tmp_path / "counts.csv")):
        pass


def test_lock_output_csv_name_too_long_is_not_writable(tmp_path):
    output = OutputPaths(tmp_path / f"{'n' * 252}.csv")
    with pytest.raises(OutputNotWritable, match=r"n\.csv cannot be written: File name too long"), lock_output(output):
        pass


NAMES = ("a.csv", "b.html", "slide.json")


def files(folder, content):
    return {folder / name: content for name in NAMES}


def tree(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_write_atomic_group_writes_all_files_and_nothing_else(tmp_path):
    write_atomic_group(files(tmp_path / "new" / "slide", b"x"))
    write_atomic_group(files(tmp_path / "new" / "slide", b"y"))
    assert tree(tmp_path / "new" / "slide") == dict.fromkeys(NAMES, b"y")


@pytest.mark.parametrize("call", range(3))
def test_write_atomic_group_full_disk_keeps_all_old_files(tmp_path, monkeypatch, call):
    write_atomic_group(files(tmp_path, b"old"))
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == call + 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputNotWritable, match=rf"{NAMES[call]} cannot be written: No space left on device"):
        write_atomic_group(files(tmp_path, b"new"))
    assert tree(tmp_path) == dict.fromkeys(NAMES, b"old")


def test_write_atomic_group_renames_in_order_after_all_are_written(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda path, target: (done.append(target.name), replace(path, target))[1])
    write_atomic_group(files(tmp_path, b"x"))
    assert done == ["fsync"] * 3 + [*NAMES, "fsync"]


def test_write_atomic_group_error_keeps_cause(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputNotWritable, match=r"a.csv cannot be written: ") as caught:
        write_atomic_group(files(tmp_path / "file", b"x"))
    assert caught.value.__cause__.errno in {errno.EEXIST, errno.ENOTDIR}
