"""The five contracts and what they are made of: torch, numpy and the standard library only."""
