"""How well a model answers, whole and with layers removed.

lm-eval's tasks become requests, an engine scores them for many variants of one model at once, lm-eval turns
the scores into its own numbers, and each variant's are compared with the whole model's, item by item.
"""
