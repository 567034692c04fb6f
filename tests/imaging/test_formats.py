import pytest

from wbctool.imaging import formats
from wbctool.imaging.formats import UnreadKind, get_unread_kind, is_image

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.mark.parametrize(
    "ending",
    ["jpg", "JPE", "jfif", "Jif", "pjpeg", "png", "dib", "TIFF", "webp", "avif", "jp2", "J2K", "jpf", "jpx", "j2c"],
)
def test_is_image_of_every_ending_that_is_read(tmp_path, ending):
    (tmp_path / f"a.{ending}").touch()
    assert is_image(tmp_path / f"a.{ending}")
    assert get_unread_kind(tmp_path / f"a.{ending}") is None


@pytest.mark.parametrize("can_read", [True, False])
def test_is_image_of_heic_goes_by_content_if_it_cannot_be_decoded(tmp_path, monkeypatch, real_jpeg, can_read):
    monkeypatch.setattr(formats, "can_read_heic", lambda: can_read)
    (tmp_path / "a.HEIC").write_bytes(HEIC)
    (tmp_path / "b.heif").write_bytes(real_jpeg.read_bytes())
    assert is_image(tmp_path / "a.HEIC") is can_read
    assert is_image(tmp_path / "b.heif")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.HEIC", UnreadKind.HEIC),
        ("a.gif", UnreadKind.OTHER),
        ("a.JXL", UnreadKind.OTHER),
        ("a.NEF", UnreadKind.RAW),
        ("a.svs", UnreadKind.SCAN),
        ("a.czi", UnreadKind.MICROSCOPE),
        ("a.MP4", UnreadKind.VIDEO),
        ("a.ZIP", UnreadKind.ARCHIVE),
        ("a.jpg.gz", UnreadKind.ARCHIVE),
        ("ward 3.lnk", UnreadKind.SHORTCUT),
        (".a.jpg.icloud", UnreadKind.PLACEHOLDER),
        ("a.jpg.part", UnreadKind.PARTIAL),
        ("a.TIF.crdownload", UnreadKind.PARTIAL),
        ("notes.part", None),
        ("a.jpg.tmp", UnreadKind.PARTIAL),
        ("notes.txt", None),
        ("Thumbs.db", None),
        ("form.pdf", None),
        (".hidden.gif", None),
        ("._a.heic", None),
    ],
)
def test_get_unread_kind_goes_by_ending(tmp_path, name, kind):
    (tmp_path / name).touch()
    assert get_unread_kind(tmp_path / name) is kind
    (tmp_path / "folder.gif").mkdir()
    assert get_unread_kind(tmp_path / "folder.gif") is None


@pytest.mark.parametrize(
    "name", ["IMG_1", "a.jpg~", "a.bak", "a.jpg ", "a.jpg.", "a.jpg.1", "a.jpg_large", "a.2024-01-31"]
)
@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"II*\0",
        b"BM\x36\0\0\0\0\0\0\0",
        b"RIFF\0\0\0\0WEBP",
        bytes(128) + b"DICM",
    ],
)
def test_get_unread_kind_looks_into_a_file_of_no_known_ending(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert get_unread_kind(tmp_path / name) is UnreadKind.UNNAMED
    (tmp_path / name).write_bytes(b"BMI 22.5, II, no image")
    assert get_unread_kind(tmp_path / name) is None
