"""The lab: the project's own small models and the recipe that trains them.

``norms`` has the papers' norm placements in numbers, ``configuration`` and ``decoder`` make them models of
transformers, ``building`` starts one and folds LNS into a plain Llama. ``recipe`` says what is trained,
``pretraining`` does it through transformers' ``Trainer``, and ``bigram`` is the baseline that the result
has to beat.
"""
