"""Speed of GSP beside stock nnU-Net, in one process, taking turns; never part of the test suite."""
