"""This package's own models: norm placements that transformers does not have."""
