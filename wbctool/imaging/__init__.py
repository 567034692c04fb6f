"""Pixels in and out: reading images whole and in true colors, crops, resizing, thumbnails. No models."""
