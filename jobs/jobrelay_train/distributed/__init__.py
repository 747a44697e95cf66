"""Several processes on one or several nodes: start them, find each other, end together."""
