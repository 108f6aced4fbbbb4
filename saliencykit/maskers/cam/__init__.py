"""Maskers from class activation maps."""
