"""Findings as figures, as tables for the terminal and as a report; nothing here needs the model, or torch."""
