"""The lab: the project's own small models and the recipe that trains them.

``recipe`` says what is trained, ``corpus tokens`` on what, ``pretraining`` does it through transformers'
``Trainer``, and ``bigram`` is the baseline that the result has to beat.
"""
