"""Where the processes of a command run: Ray places them, and what they do stays the same."""
