"""Maskers: what finds the mask."""
