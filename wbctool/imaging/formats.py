"""Kinds of image files: which are read, which are not, and what to do about those."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

from wbctool.imaging.iso_media import is_heic
from wbctool.imaging.scan import SCAN_SUFFIXES
from wbctool.notices import list_names
from wbctool.text import natural_sort_key, pluralize


@dataclass(frozen=True, slots=True)
class ReadFormat:
    """A kind of image that is read.

    Attributes:
        name: What it is called.
        suffixes: The endings of its files, in lower case.
        signature: The pattern of its first bytes.
    """

    name: str
    suffixes: frozenset[str]
    signature: bytes


READ_FORMATS = (
    ReadFormat(
        "JPEG",
        frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".pjpeg", ".pjp", ".mpo"}),
        rb"\xff\xd8\xff",
    ),
    ReadFormat("PNG", frozenset({".png"}), rb"\x89PNG\r\n\x1a\n"),
    ReadFormat("BMP", frozenset({".bmp", ".dib"}), rb"BM.{4}\0{4}"),
    ReadFormat("TIFF", frozenset({".tif", ".tiff", ".btf", ".tf8"}), rb"II[*+]\0|MM\0[*+]"),
    ReadFormat("WebP", frozenset({".webp"}), rb"RIFF.{4}WEBP"),
    ReadFormat(
        "JPEG 2000",
        frozenset({".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"}),
        rb"\0{3}\x0cjP  |\xff\x4f\xff\x51",
    ),
    ReadFormat("AVIF", frozenset({".avif"}), rb".{4}ftypavif"),
)
_HEIC = ReadFormat("HEIC", frozenset({".heic", ".heif", ".hif"}), rb".{4}ftyp(hei|mif1)")  # only with pillow-heif
IMAGE_SUFFIXES = frozenset().union(*(kind.suffixes for kind in (*READ_FORMATS, _HEIC)))
_HEAD_BYTES = 4096
_UNREAD_SIGNATURES = {
    "GIF": rb"GIF8[79]a",
    "JPEG XL": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "JPEG XR": rb"II\xbc\x01",
    "Photoshop": rb"8BPS",
    "PDF": rb"%PDF",
    "text": rb"[\t\n\r\x20-\x7e]{16}",
}
READ_SIGNATURE = re.compile(b"|".join(kind.signature for kind in READ_FORMATS), re.DOTALL)
_IMAGE_SIGNATURE = re.compile(b"|".join((READ_SIGNATURE.pattern, _HEIC.signature, rb"GIF8|.{128}DICM")), re.DOTALL)


class UnreadKind(StrEnum):
    """Kinds of files that show something, but are not read: what one is called."""

    HEIC = "HEIC image"
    OTHER = "other image"
    RAW = "raw camera image"
    SCAN = "whole-slide scan"
    OTHER_SCAN = "whole-slide scan of another kind"
    MICROSCOPE = "microscope file"
    VIDEO = "video"
    UNNAMED = "misnamed image"
    PARTIAL = "partial file"
    PLACEHOLDER = "iCloud placeholder"
    ARCHIVE = "archive"
    SHORTCUT = "Windows shortcut"

    def advise(self, count: int) -> str:
        """Return what to do about so many of them."""
        return _ADVICE[self].format(**(_ONE if count == 1 else _SEVERAL))


_ADVICE = {
    UnreadKind.HEIC: "install pillow-heif to have {them} read (pip install pillow-heif), or export JPEG",
    UnreadKind.OTHER: "export {them} as PNG, TIFF or JPEG",
    UnreadKind.RAW: "export {them} as 8-bit TIFF or JPEG",
    UnreadKind.SCAN: "install openslide to have {them} read (pip install 'wbctool[wsi]'), or export fields of {them} "
    "as PNG, TIFF or JPEG",
    UnreadKind.OTHER_SCAN: "export fields of {them} as PNG, TIFF or JPEG, or the scan as a pyramidal TIFF",
    UnreadKind.MICROSCOPE: "export {them} as 8-bit RGB TIFF",
    UnreadKind.VIDEO: "take photographs, or export single images of {them}",
    UnreadKind.UNNAMED: "give {them} the ending of what {they_are}, such as jpg",
    UnreadKind.PARTIAL: "{they_are} still being copied, or the copy was interrupted: copy {them} again",
    UnreadKind.PLACEHOLDER: "download what {they_stand} for",
    UnreadKind.ARCHIVE: "unpack {them}",
    UnreadKind.SHORTCUT: "copy what {they_lead} to, or mount it and use a link",
}
_ONE = {"them": "it", "they_are": "it is", "they_stand": "it stands", "they_lead": "it leads"}
_SEVERAL = {"them": "them", "they_are": "they are", "they_stand": "they stand", "they_lead": "they lead"}
_UNREAD_SUFFIXES = {
    UnreadKind.OTHER: ".jxl .gif .jxr .wdp .hdp .jph .jhc .jpm .apng .heics .heifs .avifs .avci .ppm .pgm .pbm .pnm "
    ".tga .pcx .exr .qoi .psd .psb .xcf .dcm .dicom .jls .bpg .flif .fits .pict .pct",
    UnreadKind.RAW: ".dng .cr2 .cr3 .crw .nef .nrw .arw .srf .sr2 .orf .rw2 .raf .pef .srw .3fr .iiq .x3f .kdc .erf "
    ".mef .mrw .rwl .gpr",
    UnreadKind.SCAN: " ".join(SCAN_SUFFIXES),
    UnreadKind.OTHER_SCAN: ".ndpis .vms .vmu .svslide .qptiff .isyntax .i2syntax .kfb .kfbf "
    ".sdpc .dyqx .tmap .tron .mdsx .afi",
    UnreadKind.MICROSCOPE: ".czi .zvi .lif .lof .xlef .nd2 .oib .oif .oir .vsi .lsm .ims .stk .dv .r3d .flex .mvd2",
    UnreadKind.VIDEO: ".mp4 .m4v .mov .avi .mkv .wmv .mpg .mpeg .webm .3gp .3g2 .mts .m2ts .flv .ogv .mj2 .asf",
    UnreadKind.ARCHIVE: ".zip .rar .7z .tar .tgz .gz .bz2 .xz .zst",
    UnreadKind.SHORTCUT: ".lnk",
}
_PARTIAL_SUFFIXES = frozenset({".part", ".partial", ".filepart", ".crdownload", ".download", ".tmp"})
_PLACEHOLDER_SUFFIX = ".icloud"
_KINDS = {suffix: kind for kind, suffixes in _UNREAD_SUFFIXES.items() for suffix in suffixes.split()}


def is_image(path: Path) -> bool:
    """Return whether a path names an image of a slide: a visible file with the ending of a kind that is read.

    The ending may have any case. A HEIC image is one only if pillow-heif is installed; any other image under its ending
    always is.
    """
    suffix = path.suffix.lower()
    is_named = suffix in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    return is_named and (suffix not in _HEIC.suffixes or can_read_heic() or not is_heic(read_head_or_empty(path)))


def get_unread_kind(path: Path) -> UnreadKind | None:
    """Return what a file that is no image of a slide shows, or hides, nevertheless; None if it is nothing to read.

    Endings decide; a file of none that is known is looked into, for an image without an ending or under another one.
    """
    suffix = path.suffix.lower()
    if not path.is_file() or (path.name.startswith(".") and not is_placeholder(path.name)):
        return None
    if is_placeholder(path.name):
        return UnreadKind.PLACEHOLDER
    if suffix in IMAGE_SUFFIXES:
        return UnreadKind.HEIC if suffix in _HEIC.suffixes else None
    if suffix in _PARTIAL_SUFFIXES and Path(path.stem).suffix.lower() in IMAGE_SUFFIXES:
        return UnreadKind.PARTIAL
    kind = _KINDS.get(suffix)
    return UnreadKind.UNNAMED if kind is None and _IMAGE_SIGNATURE.match(read_head_or_empty(path)) else kind


def describe_unread(names_by_kind: Mapping[UnreadKind, Collection[str]]) -> list[str]:
    """Return a sentence on the files of each kind that are not read, and what to do about them.

    Args:
        names_by_kind: The files' names, by what :func:`get_unread_kind` returned.
    """
    sentences = []
    for kind in UnreadKind:
        if names := names_by_kind.get(kind):
            endings = list_names(sorted({Path(name).suffix.lower().removeprefix(".") or "none" for name in names}))
            example = f"{min(names, key=natural_sort_key)!r}"
            example = example if len(names) == 1 else f"such as {example}"
            sentences.append(
                f"not read: {pluralize(len(names), kind)} ({endings}), {example}; {kind.advise(len(names))}"
            )
    return sentences


def is_placeholder(name: str) -> bool:
    """Return whether a name is what iCloud leaves of an image that it has moved to its server.

    >>> is_placeholder(".IMG_1.jpg.icloud"), is_placeholder(".IMG_1.jpg")
    (True, False)
    """
    return name.startswith(".") and name.lower().endswith(_PLACEHOLDER_SUFFIX)


def can_read_heic() -> bool:
    """Return whether pillow-heif is installed."""
    return find_spec("pillow_heif") is not None


def name_content(data: bytes) -> str:
    """Name what a file holds that is not read; empty if it is unknown.

    >>> name_content(b"GIF89a"), name_content(b"???")
    ('GIF', '')
    """
    if is_heic(data):
        return "HEIC"
    return next((name for name, signature in _UNREAD_SIGNATURES.items() if re.match(signature, data)), "")


def read_head_or_empty(path: Path) -> bytes:
    """Return the beginning of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except OSError:
        return b""
