"""What pytest leaves alone here."""

collect_ignore = ["median_filter.py"]
"""Imported it would stay registered; see `registered.register_median`."""
