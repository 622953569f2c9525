"""Predicts whole cases: from the files of an image to its segmentation."""
