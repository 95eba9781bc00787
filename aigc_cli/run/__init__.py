"""What each command does, importable without a terminal."""
