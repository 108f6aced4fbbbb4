"""Filled in with the readers."""
