"""Order: a stage waits for the previous one, and the Pods of a stage follow Pod 0."""
