"""What an image will be, from its Dockerfile."""
