"""Packs models for machines without network: `writing.write_container` makes the folder that `docker build` takes.

In the image `python -m nnunetv2_gsp.container` reads the images, predicts, and checks its results.
"""
