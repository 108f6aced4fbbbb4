"""Explanations of a data set on disk: rows, shards of maps, and their reader."""
