"""Metrics of labels that were given to things."""
