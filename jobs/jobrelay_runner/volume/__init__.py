"""The shared volume: names, files, records, archives, and what is checked of them."""
