"""Trained models: their cards, their sessions, and the loading of those that a run needs."""
