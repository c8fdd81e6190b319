"""Which modules are the blocks and branches of a model, found by structure and one traced pass."""
