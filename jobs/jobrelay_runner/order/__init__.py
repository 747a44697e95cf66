"""A stage after another one, and Pods of a stage after the first."""
