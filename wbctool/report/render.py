"""Rendering of self-contained HTML pages from the templates, styles and scripts of a package.

A page fetches nothing: its Content-Security-Policy allows its own style and script by their hash, and images as data
URIs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from wbctool.report import strings
from wbctool.report.flag_texts import NOT_EXCLUDED
from wbctool.text import display_name

# What the report imports of wbctool, and of other libraries that a page's bytes come from.
_IMPORTED = (
    "errors.py",
    "labels.py",
    "paths.py",
    "text.py",
    "types/arrays.py",
    "types/cells.py",
    "types/differential.py",
    "types/results.py",
    "types/scans.py",
    "types/slides.py",
)
_LIBRARIES = ("jinja2", "markupsafe")


def render_page(
    template: str, style: str, scripts: tuple[str, ...], package: str = "wbctool.report", **values: Any
) -> str:
    """Return a page as HTML.

    Args:
        template: Name of a Jinja template in ``templates/`` of the package.
        style: Name of a CSS file there.
        scripts: Names of JavaScript files there, joined in this order to one script.
        package: The package that has the folder ``templates/``.
        **values: Values for the template.
    """
    css, script = read_asset(style, package), "\n".join(read_asset(name, package) for name in scripts)
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{_csp_hash(css)}'; "
        f"script-src 'sha256-{_csp_hash(script)}'; base-uri 'none'; form-action 'none'"
    )
    page = template_environment(package).get_template(template)
    # Markup: both are files of the package, and escaping would break them. Neither may contain its closing tag.
    return page.render(css=Markup(css), script=Markup(script), policy=policy, t=strings, **values)  # noqa: S704


def script_json(content: Any) -> Markup:
    """Return JSON for a ``<script type="application/json">``: ASCII, without characters that could end the element."""
    text = json.dumps(content, separators=(",", ":"))
    escaped = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(escaped)  # noqa: S704


def data_uri(image: bytes) -> str:
    """Return a JPEG or WebP image as a data URI."""
    kind = "jpeg" if image.startswith(b"\xff\xd8") else "webp"
    return f"data:image/{kind};base64," + base64.b64encode(image).decode("ascii")


def line_breaks(text: str) -> Markup:
    """Return a reader's text with ``<br>`` for line breaks; other control characters are made visible."""
    return Markup("<br>").join(display_name(line) for line in re.split(r"\r\n|\r|\n", text))


@cache
def renderer_sha256() -> str:
    """Return a hash of all that makes the reports of the same results, by which a page of another version is known."""
    package = files("wbctool")
    report = package.joinpath("report")
    sources = [*report.iterdir(), *report.joinpath("templates").iterdir()]
    contents = {source.name: source.read_bytes() for source in sources if source.is_file()}
    contents |= {name: package.joinpath(name).read_bytes() for name in _IMPORTED}
    contents |= {name: version(name).encode() for name in _LIBRARIES}
    return hashlib.sha256(b"\0".join(contents[name] for name in sorted(contents))).hexdigest()


@cache
def read_asset(name: str, package: str = "wbctool.report") -> str:
    """Return a style or script of ``templates/`` without its empty lines."""
    text = files(package).joinpath("templates", name).read_text(encoding="utf-8")
    return re.sub(r"\n\s*\n+", "\n", text).strip()


@cache
def template_environment(package: str = "wbctool.report") -> Environment:
    """Return the Jinja environment of a package, with autoescaping and the filters of the pages."""
    environment = Environment(
        loader=PackageLoader(package),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["not_excluded"] = NOT_EXCLUDED
    environment.filters.update(
        percent=strings.show_percent,
        humanize=strings.humanize,
        display_name=display_name,
        line_breaks=line_breaks,
        data_uri=data_uri,
        script_json=script_json,
    )
    return environment


def _csp_hash(text: str) -> str:
    """Return the SHA-256 of a style or script in base64, as a Content-Security-Policy has it."""
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
