"""What a run is: its stages in order, how they end, what comes back of it."""
