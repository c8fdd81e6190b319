"""The door to lm-eval: tasks in, token-level requests out, answers back in, lm-eval's own numbers out."""
