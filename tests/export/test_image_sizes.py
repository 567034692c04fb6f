import shutil

import fakes
import pytest
from PIL import Image

from wbctool.errors import ResultsInvalid
from wbctool.export.image_sizes import read_field_sizes
from wbctool.imaging.reader import oriented_size, read_field
from wbctool.paths import OutputPaths
from wbctool.pipeline.run_slides import find_run_slides
from wbctool.store.reader import read_published_slides


def sizes(run, root=None):
    output = OutputPaths(run.out)
    return read_field_sizes(list(read_published_slides(output)), *find_run_slides(output, root))


def test_read_field_sizes_returns_every_analyzed_field(run):
    (run.root / "s2" / "f0.png").write_bytes(b"")
    run()
    assert sizes(run) == {("s2", "f1.png"): (320, 32), ("s2", "f2.png"): (320, 32), ("s10", "f1.png"): (320, 64)}


def test_find_run_slides_moved_slides_raises_and_root_helps(run, tmp_path):
    run()
    shutil.move(run.root, tmp_path / "elsewhere")
    with pytest.raises(ResultsInvalid, match="use --slides to name the folder"):
        sizes(run)
    assert len(sizes(run, tmp_path / "elsewhere")) == 3


def test_read_field_sizes_missing_image_raises(run):
    run()
    (run.root / "s2" / "f2.png").unlink()
    with pytest.raises(ResultsInvalid, match=r"'f2.png' of slide 's2' is no longer in"):
        sizes(run)


def test_read_field_sizes_replaced_image_raises(run):
    run()
    Image.new("RGB", (20, 20)).save(run.root / "s10" / "f1.png")
    with pytest.raises(ResultsInvalid, match=r"s10/f1.png is not the image that was analyzed"):
        sizes(run)


def test_read_field_sizes_takes_no_image_of_the_same_name_and_size(run):
    """In another folder of the name that was typed, for example."""
    run()
    path = run.root / "s10" / "f1.png"
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ResultsInvalid, match="name the folder that has these images with --slides"):
        sizes(run)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_image_size_follows_exif_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = fakes.draw_field(tmp_path / "plain.png", ["basophil"])
    with Image.open(path) as image:
        image.save(tmp_path / "f.jpg", exif=exif)
    rgb = read_field(tmp_path / "f.jpg").rgb
    assert oriented_size(tmp_path / "f.jpg") == (rgb.shape[1], rgb.shape[0])
