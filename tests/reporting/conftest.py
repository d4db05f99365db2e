from tests.cells import digits, make_cell, results

__all__ = ["digits", "make_cell", "results"]
