"""Exports a model for programs without PyTorch and nnU-Net: the network for a runtime, and pipeline.json beside it."""
