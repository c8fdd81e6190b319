"""Runs on disk: where they go, how they are written whole or not at all, and how they are read back.

``store`` is the door (:func:`~depthprobe.results.store.reserve`, ``save``, ``read_run``); behind it,
``naming`` chooses safe directory names, ``places`` a free place, ``runs`` reads, and ``manifest`` and
``files`` write. ``journal`` keeps the finished work of a run that may be killed.
"""
