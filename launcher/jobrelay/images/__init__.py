"""Images: built, loaded into clusters, pushed to registries, measured and compared.

cli        the subcommands
building   which images there are to build, and how
engine     docker, podman or buildah, whichever is there
loading    into the nodes of kind, or a containerd
measuring  what an image weighs, from its archive
comparing  the same runs in two images, in turn
report     table, JSON and picture of a comparison
"""
