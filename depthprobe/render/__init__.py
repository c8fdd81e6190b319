"""Figures and tables from saved runs; nothing here needs the model, or torch.

``reading`` says what the numbers mean, ``tables`` shows them in a terminal, ``angular`` draws the map of
angular distances, and ``figures`` picks the drawing for a run and writes the files. Of the profiles over the
depth ``gradients`` and ``variances`` say what the numbers mean (``growth`` fits the latter),
``profile_tables`` shows them and ``profiles`` draws them. ``encoding`` makes figures the bytes
of files, ``beside`` several at a time.
"""
