"""What a model is made of and how much memory it needs, before its weights are read."""
