"""What fit() is made of: pictures, cached features, late mixing, the gate that needs no boxes, and
the state on disk.
"""
