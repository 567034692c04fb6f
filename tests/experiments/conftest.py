"""The fixtures of a short training."""

from tiny_training import data, no_worker_processes, recipe, weights

__all__ = ["data", "no_worker_processes", "recipe", "weights"]
