"""How well a model answers, whole and with layers removed.

lm-eval's tasks become requests, an engine scores them for many variants of one model at once, lm-eval turns
the scores into its own numbers, and each variant's are set against those of the whole model, item by item.
"""
