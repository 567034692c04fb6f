import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import wbctool
from wbctool.report import render

PACKAGE = Path(wbctool.__file__).parent


def iter_imported(module: Path) -> Iterator[Path]:
    """Yield the modules of wbctool that a module imports."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "wbctool":
            path = PACKAGE.joinpath(*node.module.split(".")[1:])
            if path.is_dir():
                yield from (path / f"{name.name}.py" for name in node.names)
            else:
                yield path.with_suffix(".py")
        assert not (isinstance(node, ast.Import) and any(n.name.startswith("wbctool") for n in node.names))


def test_renderer_sha256_has_all_that_the_report_imports() -> None:
    seen, new = set[Path](), set((PACKAGE / "report").glob("*.py"))
    while new:
        seen |= new
        new = {path for module in new for path in iter_imported(module)} - seen
    elsewhere = {path.relative_to(PACKAGE).as_posix() for path in seen if path.parent.name != "report"}
    assert elsewhere == set(render._IMPORTED)


@pytest.mark.parametrize("changed", ["text.py", "types/results.py", "report/strings.py", "report/templates/report.css"])
def test_renderer_sha256_changes_with_a_module(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, path, read_bytes = render.renderer_sha256.__wrapped__(), PACKAGE / changed, Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read_bytes(self) + (b"#" if self == path else b""))
    assert render.renderer_sha256.__wrapped__() != before


def test_renderer_sha256_changes_with_jinja(monkeypatch: pytest.MonkeyPatch) -> None:
    before = render.renderer_sha256.__wrapped__()
    monkeypatch.setattr(render, "version", lambda name: "0" if name == "jinja2" else "1")
    assert render.renderer_sha256.__wrapped__() != before
