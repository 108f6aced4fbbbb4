"""What judges masks, one idea per file."""
