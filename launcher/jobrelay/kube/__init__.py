"""Kubernetes objects as typed dictionaries, and the pure functions that read them."""
