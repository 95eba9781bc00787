"""Pure functions that turn a network into samples, usable without any family."""
