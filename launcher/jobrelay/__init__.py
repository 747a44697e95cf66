"""What runs on the user's machine: it applies the manifests, follows each Job to its verdict,
keeps the logs and brings the results home."""
