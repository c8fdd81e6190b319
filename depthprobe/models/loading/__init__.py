"""From a name to a loaded model: sources, checkpoints, weights, devices."""
