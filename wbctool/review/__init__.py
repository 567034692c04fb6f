"""Readers' corrections: applied, replayed and audited."""
