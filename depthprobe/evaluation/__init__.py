"""Everything about lm-eval; empty until the measured drop comes."""
