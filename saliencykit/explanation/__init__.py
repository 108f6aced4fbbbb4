"""Explaining a data set: the run directory, and the pictures of one block."""
