"""Several processes on one or several nodes: they start, find each other and end together."""
