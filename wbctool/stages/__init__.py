"""The stages of a run: each takes what the one before it made, and none calls another."""
