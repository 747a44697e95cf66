"""What a kubeconfig defines: the server, its certificate, its proxy, and the credentials."""
