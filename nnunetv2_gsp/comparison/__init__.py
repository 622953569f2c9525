"""Compares models on the same cases: who is compared, what the differences say, and the page that shows it."""
