"""Any programs: jobrelay.yaml, one command or a compose file becomes stages, each a rendered Job."""
