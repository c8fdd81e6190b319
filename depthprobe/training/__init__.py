"""Training small models that differ in their norms, with a log of every layer.

``recipe`` says what to train, ``data`` reads the text, ``refusals`` says what is wrong before it begins,
``pretraining`` trains with transformers' ``Trainer``, ``checkpoints`` knows which of its checkpoints are
whole, ``divergence`` stops what fails, ``bigram`` is the baseline that the result has to beat, and
``layer_log`` logs the layers of any Trainer. The models themselves are those of ``models.own``.
"""
