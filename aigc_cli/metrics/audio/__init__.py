"""Metrics of recordings, each a `Sound` of media/audio.py."""
