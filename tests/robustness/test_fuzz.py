"""Damaged images and settings files: refused in our words, or read as what they are; never anything else."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from wbctool.errors import FieldUnreadable, SettingsInvalid
from wbctool.imaging.reader import decode_rgb
from wbctool.settings import RunSettings, load_settings

FORMATS = ("JPEG", "PNG", "BMP", "TIFF")


def examples(long: bool, short_form: int, long_form: int) -> settings:
    return settings(
        max_examples=long_form if long else short_form,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@pytest.fixture
def seeds(real_jpeg: Path) -> tuple[bytes, ...]:
    """One small real image in every format that is read."""
    small = Image.open(real_jpeg).resize((96, 64))
    made = []
    for kind in FORMATS:
        buffer = io.BytesIO()
        small.save(buffer, format=kind, **({"compression": "tiff_lzw"} if kind == "TIFF" else {}))
        made.append(buffer.getvalue())
    return tuple(made)


def test_fuzzed_images_are_read_or_refused(seeds: tuple[bytes, ...], report, long: bool) -> None:
    outcomes = {"read": 0, "refused": 0}

    @examples(long, 300, 60_000)
    @given(
        seed=st.sampled_from(seeds),
        changes=st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=12),
        cut=st.one_of(st.none(), st.integers(0, 2**16)),
        insert=st.binary(max_size=20),
    )
    def damaged(seed: bytes, changes: list[tuple[int, int]], cut: int | None, insert: bytes) -> None:
        content = bytearray(seed)
        for place, value in changes:
            content[place % len(content)] = value
        if insert:
            place = len(insert) * 37 % len(content)
            content[place:place] = insert
        if cut is not None:
            del content[cut % len(content) :]
        try:
            rgb = decode_rgb(bytes(content), max_megapixels=50)
        except FieldUnreadable as error:
            assert str(error)
            outcomes["refused"] += 1
        else:
            assert rgb.dtype == np.uint8
            assert rgb.ndim == 3
            assert rgb.shape[2] == 3
            outcomes["read"] += 1

    began = time.monotonic()
    damaged()
    report(f"damaged images: {outcomes['refused']} refused, {outcomes['read']} read, {time.monotonic() - began:.0f} s")
    assert min(outcomes.values()) > 0


VALUES = st.recursive(
    st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(["neutrophil", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def as_toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {as_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(c):08x}" for c in value if not "\ud800" <= c <= "\udfff") + '"'
    return str(value)


def test_fuzzed_settings_files_are_read_or_refused(tmp_path: Path, report, long: bool) -> None:
    outcomes = {"accepted": 0, "refused": 0}
    path = tmp_path / "wbctool.toml"
    names = st.sampled_from([*RunSettings.model_fields, "no_such_setting"])
    entries = st.dictionaries(names, VALUES, max_size=4).map(
        lambda table: "\n".join(f"{name} = {as_toml(value)}" for name, value in table.items()).encode()
    )

    @examples(long, 100, 30_000)
    @given(content=st.one_of(entries, st.binary(max_size=60)))
    def any_file(content: bytes) -> None:
        path.write_bytes(content)
        try:
            load_settings({"slides": tmp_path, "out": tmp_path / "c.csv"}, path)
        except SettingsInvalid as error:
            assert str(path) in str(error)
            outcomes["refused"] += 1
        else:
            outcomes["accepted"] += 1

    began = time.monotonic()
    any_file()
    report(
        f"settings: {outcomes['refused']} refused, {outcomes['accepted']} accepted, {time.monotonic() - began:.0f} s"
    )
    assert min(outcomes.values()) > 0
