"""Writing the files of one slide so that a disk that fills up leaves all of them as they were."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from wbctool.batch.publish import sync_folder
from wbctool.errors import OutputNotWritable
from wbctool.layout import temporary_beside


def publish_together(files: Mapping[Path, bytes]) -> None:
    """Write files of one folder whole: all to the disk under temporary names, and only then renamed, in their order.

    Raises OutputNotWritable, naming the file. Renaming needs no room on the disk, so where there is too little, every
    file that was there before is still there.
    """
    temporaries = {path: temporary_beside(path) for path in files}
    try:
        for path, temporary in temporaries.items():
            with _naming(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(temporary, files[path])
        for path, temporary in temporaries.items():
            with _naming(path):
                temporary.replace(path)
        for folder in {path.parent for path in files}:
            with _naming(folder):
                sync_folder(folder)
    finally:
        for temporary in temporaries.values():
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputNotWritable(f"{path} cannot be written: {error.strerror or error}") from error


def _write(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
