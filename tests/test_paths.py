from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbctool.errors import SettingsInvalid
from wbctool.paths import OutputPaths, is_temp_name, safe_join, temp_path_for
from wbctool.text import decode_name, display_name, encode_name

LAYOUT = OutputPaths(Path("out/counts.csv"))
BYTES = st.binary(min_size=1, max_size=12).map(lambda b: b.decode("utf-8", "surrogateescape"))
TRICKY = st.text(alphabet="\\x\udcff\udc80f8e a", max_size=10)


def test_output_paths_of_a_csv():
    assert LAYOUT.folder == Path("out/counts")
    assert LAYOUT.run_json == Path("out/counts/run.json")
    assert LAYOUT.slide_file("ward/7", "cells.csv") == Path("out/counts/ward/7/cells.csv")


@pytest.mark.parametrize("slide", ["run.json", "a/slide.json", "a/Report.html/b", "cells.csv~"])
def test_slide_folder_avoids_the_names_of_our_files(slide):
    inside = LAYOUT.slide_folder(slide).relative_to(LAYOUT.folder)
    assert not {"run.json", "slide.json", "report.html", "cells.csv"} & {part.casefold() for part in inside.parts}


def test_slide_folder_keeps_slides_apart():
    assert len({LAYOUT.slide_folder(s) for s in ("run.json", "run.json~", "run.json~~")}) == 3


@pytest.mark.parametrize("slide", ["..", "a/../b", "", "/etc", "a//b"])
def test_slide_folder_refuses_ids_that_lead_out(slide):
    with pytest.raises(ValueError, match="not a slide id"):
        LAYOUT.slide_folder(slide)


def test_temp_path_for_the_longest_name_is_short():
    assert len(temp_path_for(Path("x" * 251 + ".csv")).name) < 64


def test_is_temp_name_recognizes_only_our_names():
    name = temp_path_for(Path("counts.csv")).name
    assert is_temp_name(name)
    assert not any(is_temp_name(other) for other in (f"{name}0", f"x{name}", ".tmp-mine", ".tmp-counts.csv"))


@pytest.mark.parametrize("out", ["..csv", "q/...csv", "/"])
def test_from_path_refuses_names_of_dots(out):
    with pytest.raises(SettingsInvalid, match="is not a valid output name"):
        OutputPaths.from_path(Path(out))


def test_from_path_takes_the_csv_or_the_folder(tmp_path):
    for out in ("a.csv", "a", "a/"):
        assert OutputPaths.from_path(tmp_path / out).folder == tmp_path.resolve() / "a"


def test_from_path_takes_workbook_and_files_in_the_folder(tmp_path):
    (tmp_path / "a").mkdir()
    for out in ("a.xlsx", "a/run.json", "a/index.html"):
        assert OutputPaths.from_path(tmp_path / out).counts_csv == tmp_path.resolve() / "a.csv"


def test_from_path_of_link_is_where_run_through_it_wrote_else_where_it_leads(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "t.csv").touch()
    (tmp_path / "link.csv").symlink_to("real/t.csv")
    assert OutputPaths.from_path(tmp_path / "link.csv").folder == tmp_path.resolve() / "real" / "t"
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "run.json").touch()
    assert OutputPaths.from_path(tmp_path / "link.csv").folder == tmp_path.resolve() / "link"


@given(st.one_of(BYTES, TRICKY), st.one_of(BYTES, TRICKY))
def test_encode_name_is_utf8_and_one_to_one(a, b):
    encode_name(a).encode("utf-8")
    assert (encode_name(a) == encode_name(b)) == (a == b)


@given(st.one_of(BYTES, TRICKY))
def test_decode_name_inverts_encode_name(name):
    assert decode_name(encode_name(name)) == name


@pytest.mark.parametrize("names", [("..", "f"), ("a", "../f"), ("a/../..", "f"), ("", "f"), ("a", "")])
def test_safe_join_refuses_paths_that_lead_out(names):
    with pytest.raises(ValueError, match="is no path"):
        safe_join(Path("to"), *names)


def test_display_name_escapes_control_characters():
    assert display_name("a\nb\x1b[31m\u202ec\udcff") == r"a\nb\x1b[31m\u202ec\xff"
