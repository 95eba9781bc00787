"""Metrics of images: of pairs, and of sets by their features."""
