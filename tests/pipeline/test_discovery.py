import errno
import os

import pytest

from wbctool.errors import SlidesNotFound
from wbctool.pipeline.discovery import find_slides, is_unchanged
from wbctool.text import natural_sort_key


@pytest.fixture
def touch(tmp_path):
    def make(*names):
        for name in names:
            path = tmp_path / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path / "root"

    return make


def ids(root, **how):
    return [slide.id for slide in find_slides(root, **how)]


def test_natural_sort_key_sorts_numbers_by_value():
    names = ["field10.png", "field2.png", "Field1.png", "field02.png", "a.png"]
    assert sorted(names, key=natural_sort_key) == ["a.png", "Field1.png", "field02.png", "field2.png", "field10.png"]


def test_find_slides_folder_with_images_is_a_slide(touch):
    root = touch("s10/f10.JPG", "s10/f9.jpeg", "s2/x.tiff", "s2/deep/y.bmp", "s2/notes.txt", "empty/notes.txt")
    slides = find_slides(root)
    assert [(s.id, [p.name for p in s.fields]) for s in slides] == [
        ("s2", ["x.tiff"]),
        ("s2/deep", ["y.bmp"]),
        ("s10", ["f9.jpeg", "f10.JPG"]),
    ]


def test_find_slides_images_in_the_root_are_a_slide_of_its_name(touch):
    assert ids(touch("f.png", "a/f.png")) == ["a", "root"]


def test_find_slides_root_slide_gets_a_tilde_if_its_name_is_taken(touch):
    assert ids(touch("f.png", "root/f.png", "root~/f.png")) == ["root", "root~", "root~~"]


def test_find_slides_root_given_by_dots(touch, monkeypatch):
    root = touch("f.png", "a/notes.txt")
    monkeypatch.chdir(root / "a")
    assert [s.id for s in find_slides(type(root)(".."))] == ["root"]
    monkeypatch.chdir(root)
    assert [s.id for s in find_slides(type(root)("."))] == ["root"]


def test_find_slides_skips_hidden_files_and_folders(touch):
    assert ids(touch("a/f.png", "a/.g.png", ".git/f.png", "b/.cache/f.png")) == ["a"]


def test_find_slides_folder_named_like_an_image_is_a_folder(touch):
    root = touch("a/f.png", "a/x.jpg/g.png")
    assert [(s.id, len(s.fields)) for s in find_slides(root)] == [("a", 1), ("a/x.jpg", 1)]


def test_find_slides_without_folder_or_image_raises(touch, tmp_path):
    with pytest.raises(SlidesNotFound, match=r"gone does not exist$"):
        find_slides(tmp_path / "gone")
    with pytest.raises(SlidesNotFound, match=r"x does not exist$"):
        find_slides(touch("a/notes.txt") / "a" / "notes.txt" / "x")
    (tmp_path / "dead").symlink_to("nothing")
    with pytest.raises(SlidesNotFound, match=r"dead is a broken link$"):
        find_slides(tmp_path / "dead")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SlidesNotFound, match="is not a readable folder"):
        find_slides(tmp_path / "loop")
    with pytest.raises(SlidesNotFound, match="no image"):
        find_slides(touch("a/notes.txt"))


def test_find_slides_loops_of_links_end(touch):
    root = touch("a/f.png", "b/f.png")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self").symlink_to(root / "a" / "self")
    (root / "b" / "other").symlink_to(root / "a")
    assert ids(root) == ids(root, follow_links=True) == ["a", "b"]


def test_find_slides_follows_links_out_only_if_asked(touch, tmp_path):
    root = touch("a/f.png")
    outside = tmp_path / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "g.png").touch()
    (root / "linked").symlink_to(outside)
    (root / "a" / "h.png").symlink_to(outside / "deep" / "g.png")
    (root / "a" / "dead.png").symlink_to(outside / "nothing")
    notices = []
    assert [(s.id, len(s.fields)) for s in find_slides(root, notify=notices.append)] == [("a", 1)]
    assert notices == [
        "skipped, because they lead out of the folder of slides (--follow-links follows them): 'a/h.png', 'linked'",
        "skipped, because they are broken or circular links: 'a/dead.png'",
    ]
    assert [(s.id, len(s.fields)) for s in find_slides(root, follow_links=True)] == [("a", 2), ("linked/deep", 1)]


def test_find_slides_follows_links_inside(touch):
    root = touch("a/f.png", "b/g.png")
    (root / "b" / "f.png").symlink_to(root / "a" / "f.png")
    assert [(s.id, len(s.fields)) for s in find_slides(root)] == [("a", 1), ("b", 2)]


def test_find_slides_skips_results(touch):
    root = touch("a/f.png", "out/x/f.png", "old/x/f.png")
    (root / "old" / "run.json").write_text('{\n "schema": "wbctool-run/1"\n}')
    assert ids(root, skip=[root / "out"]) == ["a"]


def test_find_slides_keeps_a_slide_with_a_foreign_run_json(touch):
    root = touch("a/f.png")
    (root / "a" / "run.json").write_text('{"scanner": 1}')
    assert ids(root) == ["a"]


VERIFICATION = '{\n "schema": "wbctool-verification/1",\n "data": "labelled"\n}'
EVALUATION = '{\n  "schema": "wbctool-evaluation/1",\n  "classifier": [],\n  "data": "any order"\n}'
WITHOUT_SCHEMA = '{\n  "data": "a \\"b\\"",\n  "split": "held-back",\n  "super_resolve": "auto",\n  "classifier": []\n}'


@pytest.mark.parametrize(
    ("record", "content", "figures"),
    [
        ("evaluation.json", WITHOUT_SCHEMA, ["confusion-a.png"]),  # of an earlier version
        ("verification.json", VERIFICATION, ["confusion.png", "calibration.png", "bland-altman.png"]),
        ("verification.json", VERIFICATION.replace("/1", "/2"), ["confusion.png"]),
        ("evaluation.json", EVALUATION.replace("/1", "/2"), ["confusion-a.png"]),
        (
            "evaluation.json",
            EVALUATION,
            [f"{what}-a\nb.png" for what in ("confusion", "coverage", "mistakes", "reliability")],
        ),
    ],
)
def test_find_slides_skips_our_own_figures(touch, record, content, figures):
    root = touch("a/f.png", *(f"out/{name}" for name in figures))
    assert ids(root) == ["a", "out"]  # so they may be called
    (root / "out" / record).write_text('{"data": "of another program"}')
    assert ids(root) == ["a", "out"]
    (root / "out" / record).write_text(content)
    assert ids(root) == ["a"]
    touch("out/f.png")  # a slide into whose folder somebody had them written: it is not lost
    slide = find_slides(root)[1]
    assert [path.name for path in slide.fields] == ["f.png"]
    assert is_unchanged(slide, root, follow_links=False)


def test_find_slides_recognizes_an_evaluation_as_it_is_written(touch):
    """A change there that would make slides of figures fails here."""
    pytest.importorskip("matplotlib")
    from wbctool.evaluation.evaluate import Evaluation
    from wbctool.evaluation.writer import write_evaluation

    root = touch("a/f.png", "fit/confusion-x.png")
    write_evaluation(Evaluation("\u00e9" * 127, "all", "auto", (), {}, {}, (), (), {}), root / "fit")
    assert ids(root) == ["a"]


def test_find_slides_accepts_names_that_are_not_utf8(touch):
    root = touch("a/f.png")
    (root / "smear\udcff").mkdir()
    (root / "smear\udcff" / "\udcfe.png").touch()
    assert os.fsencode(root / "smear\udcff").endswith(b"smear\xff")
    slides = find_slides(root)
    assert [s.id for s in slides] == ["a", "smear\udcff"]
    assert slides[1].fields[0].is_file()


def test_find_slides_unlistable_folder_is_a_slide_with_a_problem(touch, monkeypatch):
    root, scandir = touch("a/f.png", "b/f.png"), os.scandir

    def deny(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    slides = find_slides(root)
    assert [(s.id, s.problem) for s in slides] == [("a", ""), ("b", "the folder cannot be listed: Permission denied")]


def test_find_slides_unlistable_root_raises(touch, monkeypatch):
    root, scandir = touch("a/f.png", "f.png"), os.scandir

    def deny(path):
        if str(path) == str(root):
            raise OSError(errno.EIO, "Input/output error")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    with pytest.raises(SlidesNotFound, match="root cannot be listed: Input/output error"):
        find_slides(root)


@pytest.mark.parametrize(
    "folder",
    [
        *("@eaDir", "@EADIR", "#recycle", "$RECYCLE.BIN", "$Recycle.Bin", "~snapshot", ".snapshot", "lost+found"),
        *("System Volume Information", ".Trash-1000", ".AppleDouble", "__MACOSX", ".zfs", "@Recycle", "@__thumb"),
        *("@Recently-Snapshot", "#snapshot", "Network Trash Folder", "Temporary Items", "RECYCLER", "FOUND.001"),
        *(
            "@GMT-2024.01.31-22.00.00",
            "LOST.DIR",
            "Network Recycle Bin 1",
            "_NAS_Recycle_RAID",
            "@DownloadStationTempFiles",
        ),
        *("Config.Msi", "DfsrPrivate", "$WinREAgent", "_gsdata_"),
    ],
)
def test_find_slides_skips_folders_of_systems(touch, folder):
    root = touch("a/f.png", f"{folder}/f.png", f"{folder}/deep/f.gif", f"a/{folder}/f.png/thumb.jpg")
    notices = []
    assert [slide.id for slide in find_slides(root, notify=notices.append)] == ["a"]
    assert notices == []
    assert [slide.id for slide in find_slides(root / folder)] == [folder] if folder[0] != "." else True


@pytest.mark.parametrize("folder", ["#Recycle", ".snapshot"])
def test_find_slides_skips_links_to_what_it_skips(touch, folder):
    root = touch("a/f.png", f"{folder}/b/f.png")
    (root / "a" / "bin").symlink_to(root / folder)
    (root / "b").symlink_to(root / folder / "b")
    (root / "a" / "g.png").symlink_to(root / folder / "b" / "f.png")  # as git-annex stores images
    notices = []
    (slide,) = find_slides(root, notify=notices.append)
    assert (slide.id, [path.name for path in slide.fields]) == ("a", ["f.png", "g.png"])
    assert notices == []


def test_find_slides_system_folder_without_access_is_no_failed_slide(touch, monkeypatch):
    root, scandir = touch("a/f.png", "lost+found/f.png"), os.scandir

    def deny(path):
        if str(path).endswith("lost+found"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    assert ids(root) == ["a"]


def test_find_slides_keeps_folders_with_like_names(touch):
    names = ["#recycled blood", "2024 lost+found", "snapshot", "recycle", "~101", "@101", "tmp"]
    assert sorted(ids(touch(*(f"{name}/f.png" for name in names)))) == sorted(names)


@pytest.mark.usefixtures("without_openslide")
def test_find_slides_names_what_is_not_read(touch):
    root = touch(
        *(
            "a/f.png",
            "a/g.GIF",
            "a/h.jxl",
            "b/scan.svs",
            "c/x.CR2",
            "c/y.cr2",
            "d/m.mp4",
            "d/f.jpe",
            "e/.f.gif",
            "e/notes.txt",
        ),
        *("ward/slides.csv", "ward/Thumbs.db", "loose.czi"),
    )
    notices = []
    assert [slide.id for slide in find_slides(root, notify=notices.append)] == ["a", "d"]
    assert notices == [
        "not read: 2 other images (gif, jxl), such as 'a/g.GIF'; export them as PNG, TIFF or JPEG",
        "not read: 2 raw camera images (cr2), such as 'c/x.CR2'; export them as 8-bit TIFF or JPEG",
        "not read: 1 whole-slide scan (svs), 'b/scan.svs'; install openslide to have it read (pip install "
        "'wbctool[wsi]'), or export fields of it as PNG, TIFF or JPEG",
        "not read: 1 microscope file (czi), 'loose.czi'; export it as 8-bit RGB TIFF",
        "not read: 1 video (mp4), 'd/m.mp4'; take photographs, or export single images of it",
        "not slides, as they hold no image that can be read: 'b', 'c'",
        "not read, because it does not lie in the folder of all slides: 'ward/slides.csv'",
    ]


def test_find_slides_names_images_that_hide(touch, real_jpeg):
    root = touch("a/f.png", "a/IMG_1", "a/g.jpg.filepart", "b/scans.zip", "c.lnk", "d/.IMG_2.jpg.icloud", "d/.hidden")
    (root / "a" / "IMG_1").write_bytes(real_jpeg.read_bytes())
    notices = []
    assert [slide.id for slide in find_slides(root, notify=notices.append)] == ["a"]
    assert notices == [
        "not read: 1 misnamed image (none), 'a/IMG_1'; give it the ending of what it is, such as jpg",
        "not read: 1 partial file (filepart), 'a/g.jpg.filepart'; it is still being copied, or the copy was "
        "interrupted: copy it again",
        "not read: 1 iCloud placeholder (icloud), 'd/.IMG_2.jpg.icloud'; download what it stands for",
        "not read: 1 archive (zip), 'b/scans.zip'; unpack it",
        "not read: 1 Windows shortcut (lnk), 'c.lnk'; copy what it leads to, or mount it and use a link",
        "not slides, as they hold no image that can be read: 'b', 'd'",
    ]


@pytest.mark.usefixtures("without_openslide")
def test_find_slides_with_nothing_that_is_read_says_what_there_is(touch):
    with pytest.raises(
        SlidesNotFound, match=r"no image found in .*root; not read: 1 whole-slide scan \(svs\), 'b/s.svs'"
    ):
        find_slides(touch("b/s.svs"))


class TestSingleImage:
    def test_is_a_slide_named_after_it(self, touch, monkeypatch):
        root = touch("a/f 1.JPG", "a/g.png")
        (slide,) = find_slides(root / "a" / "f 1.JPG")
        assert (slide.id, slide.fields) == ("f 1", (root / "a" / "f 1.JPG",))
        assert is_unchanged(slide, root / "a" / "f 1.JPG", follow_links=False)
        monkeypatch.chdir(root / "a")
        assert find_slides(type(root)("f 1.JPG")) == (slide,)
        (root / "a" / "f 1.JPG").unlink()
        assert not is_unchanged(slide, root / "a" / "f 1.JPG", follow_links=False)

    def test_link_to_an_image_keeps_its_own_name(self, touch, tmp_path):
        (tmp_path / "b.png").symlink_to(touch("a/f.png") / "a" / "f.png")
        assert find_slides(tmp_path / "b.png")[0].fields == (tmp_path / "b.png",)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("notes.txt", "is neither a folder nor an image"),
            ("s.svs", r"is not read; install openslide to have it read \(pip install 'wbctool\[wsi\]'\)"),
            ("x", "is neither"),
        ],
    )
    @pytest.mark.usefixtures("without_openslide")
    def test_other_file_is_refused(self, touch, name, message):
        with pytest.raises(SlidesNotFound, match=message):
            find_slides(touch(name) / name)
