"""Maskers that optimize a mask per image."""
