"""What stands where the mask is 0, one idea per file."""
