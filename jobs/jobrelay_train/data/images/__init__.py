"""Image files: found, decoded, prepared as the data set was, and cached."""
