"""Names of parts: plugin manager, hook specifications, text specs, coercion."""
