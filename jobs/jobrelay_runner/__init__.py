"""Run a command as a stage: log, record, signals, exit code. Needs only the standard library."""

__version__ = "0.1.0"
