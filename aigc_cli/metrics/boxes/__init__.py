"""Metrics of objects that were found in images."""
