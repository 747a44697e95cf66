"""What the jobs and the launcher agree on: configuration, names on the volume, records, exit codes.

The launcher may import this package and nothing else of `jobs`; it never imports torch.
"""
