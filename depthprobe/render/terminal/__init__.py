"""Findings as tables for the terminal."""
