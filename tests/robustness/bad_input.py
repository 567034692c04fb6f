"""Kinds of files that scanners, copies and people leave in a slide's folder, and what a run must make of each."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin

Make = Callable[[Path, bytes], None]
"""Makes the input in a slide's folder; the bytes are a real JPEG's."""


@dataclass(frozen=True)
class Kind:
    """cause: what the failure says, a regular expression; None where the field is read. fields: how many it adds."""

    name: str
    make: Make
    cause: str | None = None
    fields: int = 1
    needs_user: bool = False

    def __str__(self) -> str:
        return self.name


def file(name: str, content: Callable[[bytes], bytes]) -> Make:
    def make(folder: Path, jpeg: bytes) -> None:
        (folder / name).write_bytes(content(jpeg))

    return make


def saved(name: str, change: Callable[[Image.Image], Image.Image], **options: object) -> Make:
    def make(folder: Path, jpeg: bytes) -> None:
        image = change(Image.open(io.BytesIO(jpeg)).resize((160, 120)))
        image.save(folder / name, **options)

    return make


def deep(name: str, white: int) -> Make:
    """A 16-bit RGB image whose white has this value."""

    def make(folder: Path, jpeg: bytes) -> None:
        rgb = np.asarray(Image.open(io.BytesIO(jpeg)).resize((160, 120)), dtype=float) / 255
        cv2.imwrite(str(folder / name), (rgb[..., ::-1] * white).astype(np.uint16))

    return make


def frames(name: str, kind: str) -> Make:
    def make(folder: Path, jpeg: bytes) -> None:
        first = Image.open(io.BytesIO(jpeg)).resize((160, 120))
        first.save(folder / name, format=kind, save_all=True, append_images=[first.rotate(90)])

    return make


def png_header(width: int, height: int, rows: bytes = bytes(100)) -> bytes:
    """A PNG that promises more pixels than it holds."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


def sparse(folder: Path, _: bytes) -> None:
    with (folder / "x.jpg").open("wb") as huge:
        huge.truncate(5_000_000_000)


def damaged_png(folder: Path, jpeg: bytes) -> None:
    saved("x.png", lambda image: image)(folder, jpeg)
    content = bytearray((folder / "x.png").read_bytes())
    content[len(content) // 2] ^= 255
    (folder / "x.png").write_bytes(content)


def half_of_a_png(folder: Path, jpeg: bytes) -> None:
    rgb = np.asarray(Image.open(io.BytesIO(jpeg)).resize((160, 60)))
    (folder / "x.png").write_bytes(png_header(160, 120, b"".join(b"\0" + row.tobytes() for row in rgb)))


def png_with_a_damaged_header(folder: Path, jpeg: bytes) -> None:
    saved("x.png", lambda image: image)(folder, jpeg)
    content = (folder / "x.png").read_bytes()
    (folder / "x.png").write_bytes(content[:29] + bytes(4) + content[33:])


def damaged_tiff(compression: str, damage: bytes, before_end: int) -> Make:
    """A TIFF with other bytes that many before the end of its first strip."""

    def make(folder: Path, jpeg: bytes) -> None:
        image = Image.open(io.BytesIO(jpeg))
        image.save(folder / "x.tif", compression=compression)
        content = (folder / "x.tif").read_bytes()
        tags = Image.open(io.BytesIO(content)).tag_v2
        start = tags[TiffImagePlugin.STRIPOFFSETS][0] + tags[TiffImagePlugin.STRIPBYTECOUNTS][0] - before_end
        (folder / "x.tif").write_bytes(content[:start] + damage + content[start + len(damage) :])

    return make


def tiff_of_fewer_strips(folder: Path, jpeg: bytes) -> None:
    """Twice as high by its header as by its one strip."""
    saved("x.tif", lambda image: image, tiffinfo={TiffImagePlugin.ROWSPERSTRIP: 120})(folder, jpeg)
    content = (folder / "x.tif").read_bytes()
    height = struct.pack("<HHI", TiffImagePlugin.IMAGELENGTH, 4, 1)
    assert content.count(height) == 1
    (folder / "x.tif").write_bytes(content.replace(height + struct.pack("<I", 120), height + struct.pack("<I", 240)))


def cut(name: str) -> Make:
    def make(folder: Path, jpeg: bytes) -> None:
        saved(name, lambda image: image)(folder, jpeg)
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) * 2 // 3])

    return make


def unfinished(name: str) -> Make:
    """A file that got its full length before its content, as some programs copy."""

    def make(folder: Path, jpeg: bytes) -> None:
        saved(name, lambda image: image)(folder, jpeg)
        content = (folder / name).read_bytes()
        half = len(content) // 2
        (folder / name).write_bytes(content[:half] + bytes(len(content) - half))

    return make


def forbidden(folder: Path, jpeg: bytes) -> None:
    (folder / "x.jpg").write_bytes(jpeg)
    (folder / "x.jpg").chmod(0)


def link_to(target: str) -> Make:
    def make(folder: Path, _: bytes) -> None:
        (folder / "x.jpg").symlink_to(target)

    return make


def loop_of_links(folder: Path, _: bytes) -> None:
    (folder / "a.jpg").symlink_to("b.jpg")
    (folder / "b.jpg").symlink_to("a.jpg")
    (folder / "again").symlink_to("..", target_is_directory=True)


def turned(folder: Path, jpeg: bytes) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(jpeg)).save(folder / "x.jpg", exif=exif)


def named(name: str) -> Make:
    return file(name, lambda jpeg: jpeg)


INCOMPLETE = "incomplete or damaged|damaged"
GRAY = "gray image"
NOISE = np.random.default_rng(0).bytes(500)
PROFILE = "color profile cannot be read"
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
NO_IMAGE = "not a JPEG, PNG, BMP, TIFF, WebP, JPEG 2000 or AVIF image"
SEVERAL = "holds several images"

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500)
READS_HEIC = find_spec("pillow_heif") is not None

KINDS = (
    Kind("a JPEG of 1 byte", file("x.jpg", lambda j: j[:1]), NO_IMAGE),
    Kind("a JPEG of 20 bytes", file("x.jpg", lambda j: j[:20]), f"{NO_IMAGE}|{INCOMPLETE}"),
    Kind("a JPEG of 300 bytes", file("x.jpg", lambda j: j[:300]), f"{NO_IMAGE}|{INCOMPLETE}"),
    Kind("half a JPEG", file("x.jpg", lambda j: j[: len(j) // 2]), INCOMPLETE),
    Kind("a JPEG without its last 5000 bytes", file("x.jpg", lambda j: j[:-5000]), INCOMPLETE),
    Kind("a JPEG without its last 700 bytes", file("x.jpg", lambda j: j[:-700]), INCOMPLETE),
    Kind("a JPEG without its last 2 bytes", file("x.jpg", lambda j: j[:-2]), INCOMPLETE),
    Kind("a JPEG with 1 kB of zeros behind it", file("x.jpg", lambda j: j + bytes(1000))),
    Kind("half a JPEG with an end mark", file("x.jpg", lambda j: j[: len(j) // 2] + b"\xff\xd9"), INCOMPLETE),
    Kind("a JPEG with a hole", file("x.jpg", lambda j: j[:8000] + bytes(4000) + j[12000:]), INCOMPLETE),
    Kind("a TIFF whose copy stopped in the middle", unfinished("x.tif"), "last quarter of the file is zeros"),
    Kind("a BMP whose copy stopped in the middle", unfinished("x.bmp"), "last quarter of the file is zeros"),
    Kind("an empty file", file("x.jpg", lambda _: b""), "the file is empty"),
    Kind("zeros", file("x.jpg", lambda _: bytes(10_000)), "last quarter of the file is zeros"),
    Kind("noise", file("x.png", lambda _: np.random.default_rng(0).bytes(10_000)), NO_IMAGE),
    Kind("text named .jpg", file("x.jpg", lambda _: b"slide 7, patient 12\n"), NO_IMAGE),
    Kind("HTML named .png", file("x.png", lambda _: b"<html><script>alert(1)</script></html>"), NO_IMAGE),
    Kind("a JPEG named .png", named("x.png")),
    Kind("a PNG named .jpg", saved("x.jpg", lambda i: i, format="PNG")),
    Kind("a progressive JPEG", saved("x.jpg", lambda i: i, progressive=True)),
    Kind("a PNG cut short", cut("x.png"), INCOMPLETE),
    Kind("a BMP cut short", cut("x.bmp"), INCOMPLETE),
    Kind("a TIFF cut short", cut("x.tif"), INCOMPLETE),
    Kind("a PNG with a changed byte", damaged_png, INCOMPLETE),
    Kind("a PNG whose data end early", half_of_a_png, INCOMPLETE),
    Kind("a PNG with a damaged header", png_with_a_damaged_header, INCOMPLETE),
    Kind("a TIFF with a hole in a JPEG strip", damaged_tiff("jpeg", bytes(1000), 1500), INCOMPLETE),
    Kind("a TIFF with noise in a deflate strip", damaged_tiff("tiff_adobe_deflate", NOISE, 9000), INCOMPLETE),
    Kind("a TIFF of fewer strips than it needs", tiff_of_fewer_strips, INCOMPLETE),
    Kind("a JPEG TIFF", saved("x.tif", lambda i: i, compression="jpeg")),
    Kind("a TIFF packed as a PNG is", saved("x.tif", lambda i: i, compression="tiff_adobe_deflate")),
    Kind("a profile of sRGB", saved("x.png", lambda i: i, icc_profile=SRGB)),
    Kind("a broken color profile", saved("x.png", lambda i: i, icc_profile=SRGB[:200]), PROFILE),
    Kind("a gray color profile", saved("x.jpg", lambda i: i, icc_profile=SRGB.replace(b"RGB ", b"GRAY", 1)), PROFILE),
    Kind("16-bit RGB PNG", deep("x.png", 65535)),
    Kind("16-bit RGB TIFF", deep("x.tif", 65535)),
    Kind("12 bits in a 16-bit PNG", deep("x.png", 4095), "only the lower bits"),
    Kind(
        "16-bit gray PNG",
        saved("x.png", lambda i: Image.fromarray(np.asarray(i.convert("L"), np.uint16) * 256)),
        "16-bit",
    ),
    Kind("floating-point TIFF", saved("x.tif", lambda i: i.convert("F")), "floating-point"),
    Kind("gray JPEG", saved("x.jpg", lambda i: i.convert("L")), GRAY),
    Kind("black and white TIFF", saved("x.tif", lambda i: i.convert("1")), GRAY),
    Kind("CMYK JPEG", saved("x.jpg", lambda i: i.convert("CMYK")), "CMYK"),
    Kind("CMYK TIFF", saved("x.tif", lambda i: i.convert("CMYK")), "CMYK"),
    Kind("CIELAB TIFF", saved("x.tif", lambda i: i.convert("LAB")), "LAB"),
    Kind("palette PNG", saved("x.png", lambda i: i.quantize(64))),
    Kind("gray palette PNG", saved("x.png", lambda i: i.convert("L").convert("P")), GRAY),
    Kind("alpha PNG", saved("x.png", lambda i: i.convert("RGBA"))),
    Kind("wholly transparent PNG", saved("x.png", lambda i: Image.new("RGBA", i.size)), "transparent"),
    Kind("EXIF-rotated JPEG", turned),
    Kind("1×1", saved("x.png", lambda i: i.resize((1, 1)))),
    Kind("30,000×10", saved("x.png", lambda i: i.resize((30_000, 10)))),
    Kind("10×30,000", saved("x.png", lambda i: i.resize((10, 30_000)))),
    Kind("animated PNG", frames("x.png", "PNG"), SEVERAL),
    Kind("animated GIF named .jpg", frames("x.jpg", "GIF"), NO_IMAGE),
    Kind("TIFF stack", frames("x.tif", "TIFF"), SEVERAL),
    Kind("WebP named .jpg", saved("x.jpg", lambda i: i, format="WEBP")),
    Kind("HEIC named .jpg", file("x.jpg", lambda _: HEIC), INCOMPLETE if READS_HEIC else NO_IMAGE),
    Kind("HEIC", file("x.heic", lambda _: HEIC), INCOMPLETE if READS_HEIC else None, fields=int(READS_HEIC)),
    Kind("a decompression bomb", file("x.png", lambda _: png_header(100_000, 100_000)), "exceed the limit of 300 mega"),
    Kind("a file of 5 GB", sparse, "larger than an image of 300 megapixels"),
    Kind("a name with a newline", named("new\nline.jpg")),
    Kind("a name with quotes", named("quo\"te, 'comma'.jpg")),
    Kind("a name with <script>", named("<script>alert(1)<&script>.jpg")),
    Kind("a name that is a formula", named("=1+1.jpg")),
    Kind("a name that drives a terminal", named("\x1b[2J\x1b]0;x\x07.jpg")),
    Kind("a name that is not UTF-8", named(os.fsdecode(b"\xff\xfe.jpg"))),
    Kind("a name of 255 bytes", named("n" * 251 + ".jpg")),
    Kind("a folder named .jpg", lambda folder, _: (folder / "x.jpg").mkdir(), fields=0),
    Kind("a pipe named .jpg", lambda folder, _: os.mkfifo(folder / "x.jpg"), fields=0),
    Kind("a hidden half-copied file", file(".x.jpg.part.jpg", lambda j: j[:100]), fields=0),
    Kind("a file nobody may read", forbidden, "cannot be read: Permission denied", needs_user=True),
    Kind("a link to nothing", link_to("nowhere.jpg"), fields=0),
    Kind("a link out of the slides", link_to("/etc/passwd"), fields=0),
    Kind("a link to a device", link_to("/dev/zero"), fields=0),
    Kind("loops of links", loop_of_links, fields=0),
)
