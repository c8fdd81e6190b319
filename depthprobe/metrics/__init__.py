"""Pure tensor arithmetic: every formula of the papers as a function that runs without a model."""
