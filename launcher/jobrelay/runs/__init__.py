"""A run: its stages in order, their verdicts, and its results."""
