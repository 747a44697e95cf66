"""Where Jobs run: `cluster` (a kubeconfig context) or `local` (processes on this machine)."""
