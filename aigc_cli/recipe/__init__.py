"""Typed recipes: strict YAML, every mistake at once with its line, overrides, JSON schema."""
