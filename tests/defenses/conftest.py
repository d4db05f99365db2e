"""What pytest leaves alone here."""

collect_ignore = ["median_filter.py", "denoisers.py"]
"""Imported they would stay registered; see `registered.register`."""
