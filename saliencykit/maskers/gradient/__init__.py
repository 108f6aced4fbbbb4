"""Maskers that read gradients or other backward signals."""
