"""Losses and gradients of a model, a few blocks at a time."""
