"""Probes: one file for each question, from (model, samples, parameters) to a measurement."""
