"""Frozen records that the packages pass on; no logic beyond what follows from their own values."""
