"""docs/audit.md: its table has every check."""

import pathlib
import re

from robust_manifold import evaluation

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "audit.md"


def test_every_check_has_a_row_in_order():
    rows = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), flags=re.MULTILINE)
    assert tuple(rows) == evaluation.AUDIT_CHECKS
