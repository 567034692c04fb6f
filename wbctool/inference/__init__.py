"""Trained models: their cards, their sessions, and the loading of a run's three."""
