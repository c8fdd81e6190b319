"""Writing a model once as an ordinary transformers directory."""
