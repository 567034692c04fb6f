from pathlib import Path

import pytest
from pydantic import ValidationError

from wbctool.enums import Device, SuperResolve
from wbctool.errors import SettingsInvalid
from wbctool.labels import CellClass
from wbctool.settings import load_settings

FLAGS = {"slides": Path("slides"), "out": Path("counts.csv")}


def write(tmp_path, text):
    path = tmp_path / "lab.toml"
    path.write_text(text)
    return path


def test_load_settings_without_file_has_defaults():
    settings = load_settings(FLAGS)
    assert settings.device is Device.AUTO
    assert settings.super_resolve is SuperResolve.AUTO
    assert (settings.limits.low_count_below, settings.limits.limited_count_below) == (100, 200)
    assert (settings.limits.high_review_share, settings.limits.out_of_domain_share) == (0.10, 0.05)
    assert not settings.limits.adult
    assert settings.max_megapixels == 300


def test_options_win_over_file_and_file_over_defaults(tmp_path):
    config = write(tmp_path, 'workers = 3\nbatch_size = 8\ndevice = "cpu"\n')
    settings = load_settings({**FLAGS, "workers": 5, "batch_size": None}, config)
    assert (settings.workers, settings.batch_size, settings.device) == (5, 8, Device.CPU)


def test_paths_in_file_are_relative_to_it(tmp_path):
    assert load_settings(FLAGS, write(tmp_path, 'models_dir = "models"')).models_dir == tmp_path / "models"


def test_reference_ranges_in_file_replace_defaults(tmp_path):
    settings = load_settings(FLAGS, write(tmp_path, "adult = true\n[reference_ranges]\nneutrophil = [40, 75]\n"))
    assert settings.limits.reference_ranges == {CellClass.NEUTROPHIL: (40, 75)}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("wrokers = 2", "wrokers"),
        ("workers = 0", "workers"),
        ('device = "gpu"', "device"),
        ("settle_s = -1", "settle_s"),
        ("cells_per_scan = 0", "cells_per_scan: a whole number from 1, or all"),
        ('cells_per_scan = "many"', "cells_per_scan"),
        ("cells_per_scan = true", "cells_per_scan"),
        ("settle_s = nan", "settle_s"),
        ("high_review_share = 1.5", "high_review_share"),
        ("slides = '/elsewhere'", "slides"),
        ("[reference_ranges]\nplatelet = [1, 2]", "reference_ranges"),
        ("[reference_ranges]\nmonocyte = [9, 0]", "reference_ranges"),
        ("[reference_ranges]\nmonocyte = [9]", "reference_ranges: monocyte: a range is two numbers"),
        ("[absolute_ranges]\nmonocyte = 9", "absolute_ranges: monocyte: a range is two numbers"),
        ("[reference_ranges]\nmonocyte = [0, 'x']", "reference_ranges.monocyte.1: "),
        ("reference_ranges = 3", "reference_ranges: "),
        ("workers = ", "not a TOML file"),
    ],
)
def test_error_in_file_names_file_and_entry(tmp_path, text, names):
    config = write(tmp_path, text)
    with pytest.raises(SettingsInvalid) as caught:
        load_settings(FLAGS, config)
    assert str(config) in str(caught.value)
    assert names in str(caught.value)


def test_range_of_unknown_class_lists_classes_of_differential(tmp_path):
    with pytest.raises(SettingsInvalid, match="reference_ranges: monocytes is not a class") as caught:
        load_settings(FLAGS, write(tmp_path, "[reference_ranges]\nmonocytes = [1, 2]"))
    assert str(caught.value).endswith("neutrophil, lymphocyte, monocyte, eosinophil, basophil, immature_granulocyte")


def test_file_with_byte_order_mark_is_read(tmp_path):
    assert load_settings(FLAGS, write(tmp_path, "\ufeffworkers = 3\r\n")).workers == 3


def test_home_folder_is_expanded_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/lab")
    config = write(tmp_path, 'models_dir = "~/models"\nlog_file = "~/w.log"\nmetrics = "~/w.prom"\n')
    settings = load_settings({"slides": Path("~/slides"), "out": Path("~/c.csv")}, config)
    paths = (settings.slides, settings.out, settings.models_dir, settings.log_file, settings.metrics)
    assert [path.parent.as_posix() for path in paths] == ["/home/lab"] * 5


def test_home_folder_of_nobody_is_refused(tmp_path):
    with pytest.raises(
        SettingsInvalid, match=r"lab\.toml: log_file: ~nobody-here/w\.log: there is no such home folder"
    ):
        load_settings(FLAGS, write(tmp_path, 'log_file = "~nobody-here/w.log"\n'))


@pytest.mark.parametrize("name", ["out", "log_file", "metrics"])
def test_option_on_slides_csv_is_refused(tmp_path, name):
    slides = tmp_path / "slides"
    slides.mkdir()
    (tmp_path / "link.csv").symlink_to(slides / "slides.csv")
    option = "--" + name.replace("_", "-")
    paths = [slides / "slides.csv", slides / ".." / "slides" / "slides.csv", tmp_path / "link.csv"]
    if name == "metrics":  # another ending is refused already
        (tmp_path / "m.prom").symlink_to(slides / "slides.csv")
        paths = [tmp_path / "m.prom"]
    for path in paths:
        with pytest.raises(SettingsInvalid, match=f"^{option}: .* is the laboratory's own table of slides"):
            load_settings({**FLAGS, "slides": slides, name: path})
    assert load_settings({**FLAGS, "slides": slides, "log_file": slides / "a" / "slides.csv"})


def test_entry_on_slides_csv_is_refused(tmp_path):
    with pytest.raises(SettingsInvalid, match=r"lab\.toml: log_file: .* is the laboratory's own table"):
        load_settings({**FLAGS, "slides": tmp_path}, write(tmp_path, 'log_file = "slides.csv"'))


@pytest.mark.parametrize("entry", ["workers", "settle_s", "batch_size", "low_count_below"])
def test_true_for_a_number_is_refused(tmp_path, entry):
    with pytest.raises(SettingsInvalid, match=rf"lab\.toml: {entry}: true is not a value for it"):
        load_settings(FLAGS, write(tmp_path, f"{entry} = true"))


def test_empty_path_in_file_is_refused(tmp_path):
    with pytest.raises(SettingsInvalid, match=r"lab\.toml: log_file: it is empty"):
        load_settings(FLAGS, write(tmp_path, 'log_file = ""'))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(SettingsInvalid, match=r"gone\.toml: cannot be read"):
        load_settings(FLAGS, tmp_path / "gone.toml")


@pytest.mark.parametrize(
    ("flags", "option"),
    [
        ({"workers": 0}, "--workers"),
        ({"settle_s": -1.0}, "--settle"),
        ({"max_failures": 0}, "--max-failures"),
        ({"out": Path("counts")}, "--out"),
        ({"out": Path("counts.txt")}, "--out"),
        ({"out": Path("..csv")}, "--out"),
        ({"out": Path("q/...csv")}, "--out"),
        ({"out": Path(".csv")}, "--out"),
    ],
)
def test_wrong_option_is_named_as_typed(flags, option):
    with pytest.raises(SettingsInvalid, match=f"^{option}: "):
        load_settings({**FLAGS, **flags})


def test_settings_are_frozen():
    with pytest.raises(ValidationError):
        load_settings(FLAGS).workers = 3


def test_result_settings_ignore_workers_and_batch_size():
    slow, fast = load_settings({**FLAGS, "workers": 1}), load_settings({**FLAGS, "workers": 9, "batch_size": 1})
    assert slow.result_settings() == fast.result_settings()
    assert slow.result_settings() != load_settings({**FLAGS, "super_resolve": "never"}).result_settings()


@pytest.mark.parametrize(("given", "cells"), [("all", "all"), ("300", 300), (300, 300), (None, 200)])
def test_cells_of_a_scan_are_a_number_or_all(given, cells):
    settings = load_settings({**FLAGS, "cells_per_scan": given})
    assert settings.cells_per_scan == cells
    assert settings.scan_settings() == {"cells_per_scan": cells}
    assert "cells_per_scan" not in settings.result_settings()
