"""Labelled pictures for evaluation, from the forms in which people keep them."""
