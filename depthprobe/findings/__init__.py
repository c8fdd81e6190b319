"""What saved tables say, as plain values and sentences; nothing here needs matplotlib, rich or torch.

``of_runs`` reads one run or measurement by the function that its probe names: ``angular``, ``drops``,
``gradnorm``, ``variance``, or ``layer_rows`` for every other. ``study`` chooses the runs of one model, and
``findings`` is all that they say together, ``trust`` and ``verdict`` among it. ``comparison`` is what several
models say side by side, ``removals`` which layers can go. ``words`` and ``captions`` put it into words.
"""
