"""Resumable runs over data."""
