"""Numbers that say how good generated data is: `metrics/<modality>/<name>.py`."""
