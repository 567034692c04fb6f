"""wbctool: white-cell differentials from folders of blood smear images. Research use only.

The Python API is imported when it is first used (docs/python-api.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wbctool.api import ImageAnalysis, analyze_image, load_models, read_cells, read_results

__all__ = ["ImageAnalysis", "analyze_image", "load_models", "read_cells", "read_results"]
__version__ = "0.1.0"

# Increased if the same slide, models and settings may give other files than before: every slide is then done again.
RESULTS_VERSION = 8


def __getattr__(name: str) -> Any:
    """Import the API when one of its names is first used."""
    if name in __all__:
        from wbctool import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
