"""What the pages share: the template environment, styles and scripts written into the page, and data for the scripts.

A page needs nothing but itself, and its policy lets it fetch nothing: styles and scripts run by their hash alone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from wbctool.report import strings
from wbctool.report.tables import format_percent
from wbctool.text import display_name


def render_page(
    template: str, style: str, scripts: tuple[str, ...], package: str = "wbctool.report", **values: Any
) -> str:
    """A page as HTML. template, style, scripts: names in templates/; the scripts run in their order, as one."""
    css, script = read_asset(style, package), "\n".join(read_asset(name, package) for name in scripts)
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_csp_hash(css)}'; script-src 'sha256-{_csp_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    page = template_environment(package).get_template(template)
    # Markup: both are our own files, and escaping would break them; neither may hold what ends its element.
    return page.render(css=Markup(css), script=Markup(script), policy=policy, t=strings, **values)  # noqa: S704


def script_json(content: Any) -> Markup:
    """JSON for a ``<script type="application/json">``: pure ASCII, and nothing in it can end the element."""
    text = json.dumps(content, separators=(",", ":"))
    escaped = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(escaped)  # noqa: S704


def data_uri(image: bytes) -> str:
    """A JPEG or WebP as an address that holds it."""
    kind = "jpeg" if image.startswith(b"\xff\xd8") else "webp"
    return f"data:image/{kind};base64," + base64.b64encode(image).decode("ascii")


def line_breaks(text: str) -> Markup:
    """A text that a reader wrote, its lines as lines; other control characters are made visible."""
    return Markup("<br>").join(display_name(line) for line in re.split(r"\r\n|\r|\n", text))


@cache
def read_asset(name: str, package: str = "wbctool.report") -> str:
    """A style or script of templates/, without its empty lines."""
    text = files(package).joinpath("templates", name).read_text(encoding="utf-8")
    return re.sub(r"\n\s*\n+", "\n", text).strip()


@cache
def template_environment(package: str = "wbctool.report") -> Environment:
    """The templates of a package, autoescaped."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=format_percent,
        humanize=strings.humanize,
        display_name=display_name,
        line_breaks=line_breaks,
        data_uri=data_uri,
        script_json=script_json,
    )
    return environment


def _csp_hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
