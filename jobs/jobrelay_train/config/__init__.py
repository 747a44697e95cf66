"""Everything that a run may be told. No PyTorch: the launcher imports this, too."""
