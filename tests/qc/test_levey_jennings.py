"""The drawing of control charts."""

import base64
import hashlib
import itertools
import re
from datetime import UTC, datetime, timedelta
from html import unescape

from wbctool.qc.history import QUANTITIES
from wbctool.qc.levey_jennings import describe_charts, render_charts
from wbctool.qc.types import QcRecord
from wbctool.qc.westgard import build_control_charts


def charts_of(values, baseline=4, quantity="neutrophil_pct", slide="qc<1>"):
    start = datetime(2026, 1, 1, tzinfo=UTC)
    none = dict.fromkeys(QUANTITIES)
    lines = [
        QcRecord(start + timedelta(days=day), slide, "m", 100, none | {quantity: value})
        for day, value in enumerate(values)
    ]
    return build_control_charts(lines, baseline)


def page(values, baseline=4):
    return render_charts(charts_of(values, baseline))


def summary(*charts):
    """Return the text between the heading and the explanation."""
    html = render_charts([chart for group in charts for chart in group])
    head = re.search(r"</h1>(.*?)<p class=\"soft\">", html, re.DOTALL)[1]
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", head)).split())


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


def test_render_charts_begins_with_what_is_out_of_control_and_what_is_not_judged():
    fine, lost, new = [59, 60, 61, 60, 60], [59, 60, 61, 60, 90], [59, 60]
    lost_focus = charts_of(lost, quantity="blur_um")
    assert summary(charts_of(fine)) == "In control."
    assert summary(charts_of(lost)) == "Out of control: qc<1> (all)."
    assert summary(charts_of(fine), lost_focus) == "Out of control: qc<1> (width of the cells' edges, µm)."
    assert summary(charts_of(new)) == "Not judged yet: qc<1> (all)."
    assert (
        summary(charts_of(fine), charts_of(new, slide="b")) == "In control, as far as judged. Not judged yet: b (all)."
    )


def test_describe_charts_slide_with_provisional_limits_has_one_line():
    new = [*charts_of([59, 60]), *charts_of([0.1], quantity="blur_um")]
    assert describe_charts(new) == ["qc<1>: 2 of 4 baseline values: limits are provisional, no rules are judged"]
    judged = [*charts_of([59, 60, 61, 60, 60]), *charts_of([0.1], quantity="blur_um")]
    assert [line.partition(":")[0] for line in describe_charts(judged)] == ["qc<1>, neutrophil_pct", "qc<1>, blur_um"]


def test_render_charts_times_are_utc():
    assert "2026-01-05 00:00 UTC: 90" in page([59, 60, 61, 60, 90])


def test_render_charts_in_control_has_no_label_and_no_list():
    html = page([59, 60, 61, 60, 60.1])
    assert not list(labels(html))
    assert "<details" not in html
