"""From a request to a saved run: one way for every probe (``run``), and for several of them or models."""
