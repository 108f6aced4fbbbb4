"""What evaluate() is made of: the run directory and its lock, rows, one batch judged, and the table
with its intervals.
"""
