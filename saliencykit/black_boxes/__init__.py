"""Classifiers seen from outside: torch modules, models of timm and torchvision, functions on
arrays.
"""
