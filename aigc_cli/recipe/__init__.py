"""Typed recipes: strict YAML, every mistake at once with its line, overrides, JSON schema.

`load.py` is the way in. Nothing is imported here: `aigc recipe ls` needs no types.
"""
