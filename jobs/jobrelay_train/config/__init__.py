"""The configuration of a run. Does not import PyTorch, because the launcher imports this, too."""
