"""Speed, side by side in one process; never part of the test suite."""
