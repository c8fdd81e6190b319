"""Pure arithmetic: every formula of the papers, and the statistics, as functions that run without a model."""
