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


def test_names():
    assert LAYOUT.folder == Path("out/counts")
    assert LAYOUT.run_json == Path("out/counts/run.json")
    assert LAYOUT.slide_file("ward/7", "cells.csv") == Path("out/counts/ward/7/cells.csv")


@pytest.mark.parametrize("slide", ["run.json", "a/slide.json", "a/Report.html/b", "cells.csv~"])
def test_a_slide_named_as_one_of_our_files_steps_aside(slide):
    inside = LAYOUT.slide_folder(slide).relative_to(LAYOUT.folder)
    assert not {"run.json", "slide.json", "report.html", "cells.csv"} & {part.casefold() for part in inside.parts}


def test_stepping_aside_keeps_slides_apart():
    assert len({LAYOUT.slide_folder(s) for s in ("run.json", "run.json~", "run.json~~")}) == 3


@pytest.mark.parametrize("slide", ["..", "a/../b", "", "/etc", "a//b"])
def test_no_id_leads_out(slide):
    with pytest.raises(ValueError, match="not a slide id"):
        LAYOUT.slide_folder(slide)


def test_temporary_names_fit_beside_the_longest_name():
    assert len(temp_path_for(Path("x" * 251 + ".csv")).name) < 64


def test_temporary_names_are_known_from_others():
    name = temp_path_for(Path("counts.csv")).name
    assert is_temp_name(name)
    assert not any(is_temp_name(other) for other in (f"{name}0", f"x{name}", ".tmp-mine", ".tmp-counts.csv"))


@pytest.mark.parametrize("out", ["..csv", "q/...csv", "/"])
def test_no_output_is_named_by_dots(out):
    with pytest.raises(SettingsInvalid, match="is not a valid output name"):
        OutputPaths.from_path(Path(out))


def test_an_output_is_named_by_its_csv_or_its_folder(tmp_path):
    for out in ("a.csv", "a", "a/"):
        assert OutputPaths.from_path(tmp_path / out).folder == tmp_path.resolve() / "a"


@given(st.one_of(BYTES, TRICKY), st.one_of(BYTES, TRICKY))
def test_names_as_text_are_utf8_and_one_to_one(a, b):
    encode_name(a).encode("utf-8")
    assert (encode_name(a) == encode_name(b)) == (a == b)


@given(st.one_of(BYTES, TRICKY))
def test_a_name_comes_back_from_its_text(name):
    assert decode_name(encode_name(name)) == name


@pytest.mark.parametrize("names", [("..", "f"), ("a", "../f"), ("a/../..", "f"), ("", "f"), ("a", "")])
def test_no_export_leads_out(names):
    with pytest.raises(ValueError, match="is no path"):
        safe_join(Path("to"), *names)


def test_names_shown_hold_no_control_characters():
    assert display_name("a\nb\x1b[31m\u202ec\udcff") == r"a\nb\x1b[31m\u202ec\xff"
