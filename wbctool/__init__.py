"""wbctool: white-cell differentials from folders of blood smear images. Research use only."""

__version__ = "0.1.0"
