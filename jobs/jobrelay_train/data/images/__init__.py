"""Image files: find, decode, prepare them as the data set was prepared, and cache them."""
