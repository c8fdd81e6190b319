"""From a request to a saved run: one way for every probe (``run``), for several probes and several models."""
