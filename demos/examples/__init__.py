"""Example files for ``backproof check``."""
