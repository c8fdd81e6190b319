"""Models of this package's own: norm placements that transformers does not have."""
