"""Training small models that differ in their norms, with a log of every layer.

``recipe`` says what is trained, ``pretraining`` does it through transformers' ``Trainer``, ``bigram`` is the
baseline that the result has to beat, and ``layer_log`` logs the layers of any Trainer. The models themselves
are those of ``models.own``.
"""
