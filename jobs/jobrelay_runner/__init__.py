"""What runs a command as a stage: log, record, signals, exit code. The standard library alone."""

__version__ = "0.1.0"
