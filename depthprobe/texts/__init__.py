"""Calibration text: hub data set, file or the Python standard library -> token samples with a hash."""
