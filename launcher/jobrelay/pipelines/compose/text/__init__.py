"""The text of compose files: YAML as Docker reads it, variables, .env files."""
