"""Findings as figures."""
