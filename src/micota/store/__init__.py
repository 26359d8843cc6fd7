"""Artifacts, the pool of completions, locks, and where models and data made elsewhere lie."""
