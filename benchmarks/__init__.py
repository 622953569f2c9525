"""How fast is it? Side by side in one process with stock nnU-Net; never part of the test suite."""
