"""Compares models on the same cases: pairs their predictions, tests the differences, and writes the report."""
