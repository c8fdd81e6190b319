"""Models: how they are loaded, what they are made of, and how their residual stream is read."""
