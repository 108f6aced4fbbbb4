"""The five contracts and what they are made of: torch and the standard library only."""
