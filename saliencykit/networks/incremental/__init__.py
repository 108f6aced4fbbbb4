"""Exact incremental recomputation: of a network's maps only what a filled window can change is
computed again.
"""
