"""Build images, load them into clusters, push them to registries, measure and compare them.

command    the command `images compare`
building   the recipes of the images
engine     docker, podman or buildah, whichever is installed
loading    into the nodes of kind, or into a containerd
measuring  the size of an image, from its archive
comparing  the same runs in two images, alternately
report     table, JSON and picture of a comparison
"""
