"""Runs `python -m robust_manifold.results`."""

import sys

from robust_manifold.results.command import main

if __name__ == "__main__":
    sys.exit(main())
