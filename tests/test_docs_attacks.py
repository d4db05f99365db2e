"""docs/attacks.md: its tables are those of the registry."""

import pathlib
import re

import pytest

from robust_manifold import attack_table, attacks

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "attacks.md"


def test_the_tables_are_fresh():
    text = PAGE.read_text()
    assert text == attack_table.rendered(text), "python -m robust_manifold.attack_table"


def test_every_attack_has_a_row():
    rows = re.findall(r"^\| `(\w+)` \|", attack_table.tables(), flags=re.MULTILINE)
    assert sorted(rows) == attacks.registry.names


def test_a_row_says_what_a_spec_says():
    (row,) = re.findall(r"\| `pgd` .*", attack_table.tables())
    assert "`PGD` | projected gradient descent (Madry et al. 2018) | white box" in row
    assert "linf, l2" in row and "`epsilon`, `steps=40`" in row
    # The clean image, 40 gradients, and the last image.
    assert row.endswith("| 42 | 40 |")
    (row,) = re.findall(r"\| `square` .*", attack_table.tables())
    assert "| scores |" in row and row.endswith("| 0 |")


def test_a_page_without_markers_is_refused():
    with pytest.raises(ValueError, match="The page lacks the lines <!-- attacks:"):
        attack_table.rendered("# Attacks\n")
