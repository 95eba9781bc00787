"""The generative families, one file each, in rooms by what they make."""
