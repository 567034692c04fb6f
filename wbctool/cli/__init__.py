"""The command line."""

from wbctool.cli.app import app, main

__all__ = ["app", "main"]
