"""The shared volume: names, files, records, archives, and the checks of all these."""
