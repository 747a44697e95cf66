"""The built-in PyTorch programs: train, eval, infer."""
