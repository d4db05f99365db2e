"""A user's images projected, outside a run."""
