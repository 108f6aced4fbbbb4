"""The summands of objectives, one idea per file, and the objectives that have a name."""
