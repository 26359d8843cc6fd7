"""From YAML to specs, every mistake with its line."""
