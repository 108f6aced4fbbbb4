"""Adapters for other libraries: Captum and Quantus."""
