"""Data sets and models by name: what there is, where it lies here, and how it gets here."""
