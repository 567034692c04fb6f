"""Labeled data: class folders, annotated fields, manual differentials, and their splits by group."""
