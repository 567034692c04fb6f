"""Pixels in and out, without models: read, check, crop, and resize images."""
