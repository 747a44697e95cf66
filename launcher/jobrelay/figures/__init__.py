"""Numbers for people: durations, sizes, rates, and what a stage should ask for next time."""
