"""The command line as `python -m wbctool`."""

from wbctool.cli import main

main()
