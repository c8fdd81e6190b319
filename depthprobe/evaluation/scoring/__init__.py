"""Scores of many variants of one model, computing once what they share. Knows nothing of lm-eval."""
