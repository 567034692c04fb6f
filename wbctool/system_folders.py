"""The folders that network storage and operating systems make among a laboratory's own."""

from __future__ import annotations

import re
from pathlib import PurePath

_NAMES = frozenset(
    {
        # Synology, QNAP, TrueNAS, Buffalo, Asustor: thumbnails, bins, snapshots, their programs' own folders
        *("@eadir", "@tmp", "@sharesnap", "#recycle", "#snapshot", "@__thumb", "@recycle", "@recently-snapshot"),
        *("@recently snapshot", "@transcode", "trashbox", "@synoresource", "@synoeastream", "@appstore", "@database"),
        *("@download", "@downloadstationtempfiles", "@sharebin", "@__desc"),
        "~snapshot",  # NetApp
        # Windows
        *("$recycle.bin", "recycler", "recycled", "system volume information", "$extend", "$windows.~bt"),
        *("$windows.~ws", "$winreagent", "$sysreset", "$getcurrent", "config.msi", "msocache", "dfsrprivate"),
        # macOS
        *("network trash folder", "temporary items", "thevolumesettingsfolder", "__macosx"),
        *("lost+found", "lost.dir"),  # Linux and Android, of what a check of the disk found
        *("files_trashbin", "files_versions"),  # Nextcloud
        "_gsdata_",  # GoodSync
    }
)
_PATTERN = re.compile(
    r"@gmt-\d{4}\.\d\d\.\d\d-\d\d\.\d\d\.\d\d"  # shadow copies
    r"|found\.\d{3}"  # what chkdsk found
    r"|network recycle bin( \d+)?|_nas_recycle_.*"  # older QNAP and Asustor, Thecus
)


def is_system_folder(name: str) -> bool:
    """Return whether a folder has a name that systems give, in any case; those with a leading dot are hidden anyway.

    >>> [is_system_folder(name) for name in ("@eaDir", "#Recycle", "lost+found", "2024-101")]
    [True, True, True, False]
    """
    name = name.casefold()
    return name in _NAMES or _PATTERN.fullmatch(name) is not None


def is_passed_over(relative: PurePath) -> bool:
    """Return whether a path, relative to a laboratory's folder, lies in a hidden folder or one that systems make.

    >>> [is_passed_over(PurePath(path)) for path in (".snapshot/hourly.0/a.png", "#recycle/a.png", "ward 3/a.png")]
    [True, True, False]
    """
    return any(part.startswith(".") or is_system_folder(part) for part in relative.parts[:-1])
