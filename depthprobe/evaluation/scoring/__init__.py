"""Scores of many variants of one model: what they share is computed once. Knows nothing of lm-eval."""
