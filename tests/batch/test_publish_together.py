"""Several files or none of them, whatever the disk says."""

import errno
import os
from pathlib import Path

import pytest

from wbctool.batch.publish import publish_together
from wbctool.errors import OutputNotWritable

NAMES = ("a.csv", "b.html", "slide.json")


def files(folder, content):
    return {folder / name: content for name in NAMES}


def tree(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_all_are_written_and_nothing_else(tmp_path):
    publish_together(files(tmp_path / "new" / "slide", b"x"))
    publish_together(files(tmp_path / "new" / "slide", b"y"))
    assert tree(tmp_path / "new" / "slide") == dict.fromkeys(NAMES, b"y")


@pytest.mark.parametrize("call", range(3))
def test_a_disk_that_fills_up_leaves_all_as_they_were(tmp_path, monkeypatch, call):
    publish_together(files(tmp_path, b"old"))
    calls = []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == call + 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputNotWritable, match=rf"{NAMES[call]} cannot be written: No space left on device"):
        publish_together(files(tmp_path, b"new"))
    assert tree(tmp_path) == dict.fromkeys(NAMES, b"old")


def test_they_are_renamed_in_their_order_once_all_are_on_the_disk(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (done.append("fsync"), fsync(descriptor))[1])
    monkeypatch.setattr(Path, "replace", lambda path, target: (done.append(target.name), replace(path, target))[1])
    publish_together(files(tmp_path, b"x"))
    assert done == ["fsync"] * 3 + [*NAMES, "fsync"]


def test_the_cause_is_kept(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputNotWritable, match=r"a.csv cannot be written: ") as caught:
        publish_together(files(tmp_path / "file", b"x"))
    assert caught.value.__cause__.errno in {errno.EEXIST, errno.ENOTDIR}
