"""wbctool: white-cell differentials from folders of blood smear images. Research use only."""

__version__ = "0.1.0"

# Raised whenever the same slide, models and settings may give other files than before: every slide is then done again.
RESULTS_VERSION = 8
