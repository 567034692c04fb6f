"""The fixtures of a short training."""

from tiny_training import data, recipe, weights

__all__ = ["data", "recipe", "weights"]
