"""Metrics of what the guard does."""
