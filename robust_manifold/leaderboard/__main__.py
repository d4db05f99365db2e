"""`python -m robust_manifold.leaderboard`."""

import sys

from robust_manifold.leaderboard.command import main

if __name__ == "__main__":
    sys.exit(main())
