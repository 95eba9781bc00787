"""Metrics of pieces of music on a grid, each of one piece by itself."""
