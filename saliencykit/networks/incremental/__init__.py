"""Exact incremental recomputation: of each feature map only what a filled window can change is
computed again.
"""
