"""The table of a run: its rows and columns, attacked and classified."""
