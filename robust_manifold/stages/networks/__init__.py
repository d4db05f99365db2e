"""Trained networks: stored, read, taken over, published."""
