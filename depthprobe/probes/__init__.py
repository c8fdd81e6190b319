"""Probes: one file a question, from (model, samples, parameters) to a measurement."""
