"""What the tests of commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fakes
import pytest
from typer.testing import CliRunner

from wbctool.cli import app


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Call a command in this process, with fake stages in place of models."""
    monkeypatch.setattr("wbctool.cli.run.load_stages", fakes.fake_stages)

    def call(*args: object) -> Any:
        return CliRunner().invoke(app, [str(arg) for arg in args])

    return call
