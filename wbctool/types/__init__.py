"""Frozen records that the packages pass on, without logic beyond what follows from their own values."""
