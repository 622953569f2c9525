"""Measures segmentations under definitions with a name."""
