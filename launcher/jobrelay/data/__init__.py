"""Data sets of this machine, on their way to the volume."""
