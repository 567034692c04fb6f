"""The drawing of control charts."""

import base64
import hashlib
import itertools
import re
from datetime import UTC, datetime, timedelta
from html import unescape

from wbctool.qc.history import QUANTITIES
from wbctool.qc.levey_jennings import render_charts
from wbctool.qc.types import QcRecord
from wbctool.qc.westgard import build_control_charts


def page(values, baseline=4):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    none = dict.fromkeys(QUANTITIES)
    lines = [
        QcRecord(start + timedelta(days=day), "qc<1>", "m", 100, none | {"neutrophil_pct": value})
        for day, value in enumerate(values)
    ]
    return render_charts(build_control_charts(lines, baseline))


def labels(html):
    """(left, right) of each label, by five and a half units a letter."""
    found = re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="(end|middle)" fill="var\(--alert\)">([^<]+)', html)
    for x, anchor, text in found:
        right = float(x) + (0 if anchor == "end" else 5.5 * len(text) / 2)
        yield right - 5.5 * len(text), right


def test_render_charts_labels_do_not_overlap():
    html = page([59, 60, 61, 60, *[60, 90] * 8, 95, 96, 97])
    drawn = list(labels(html))
    assert len(drawn) >= 2
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(drawn))
    assert 'text-anchor="end"' in html


def test_render_charts_lists_values_that_break_rules_latest_first():
    html = page([59, 60, 61, 60, 90, 60, 97])
    assert "Values that break a rule: 2" in html
    listed = re.findall(r"<li>([\d-]+)", html)
    assert listed == ["2026-01-07", "2026-01-05"]


def test_render_charts_policy_allows_only_its_own_style():
    html = page([59, 60, 61, 60])
    policy = unescape(re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)[1])
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)[1]
    assert "--alert" in style
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert " style=" not in html  # which the policy would drop


def test_render_charts_values_that_never_vary_lie_on_their_mean():
    """The mean of twenty times 100 / 13 differs from it by rounding."""
    html = page([100 / 13] * 22, baseline=20)
    (mean_y,) = re.findall(r'd="M60 ([\d.]+)H\d+" stroke="var\(--line\)" stroke-width="2"', html)
    assert set(re.findall(r'cy="([\d.]+)"', html)) == {mean_y}
    assert "in control" in html


def test_render_charts_times_are_utc():
    assert "2026-01-05 00:00 UTC: 90" in page([59, 60, 61, 60, 90])


def test_render_charts_in_control_has_no_label_and_no_list():
    html = page([59, 60, 61, 60, 60.1])
    assert not list(labels(html))
    assert "<details" not in html
