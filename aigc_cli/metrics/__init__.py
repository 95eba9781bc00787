"""Numbers that say how good generated data is; one metric for each file."""
