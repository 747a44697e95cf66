"""What a kubeconfig promises: the server, its certificate, the proxy before it, and the credentials."""
