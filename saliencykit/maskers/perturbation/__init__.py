"""Maskers that query the black box on perturbed images."""
