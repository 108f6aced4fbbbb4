"""The universal masker: one small network that sharpens the evidence map of any classifier."""
