"""docs/audit.md: its examples run, and its table has every check."""

import doctest
import pathlib
import re

from robust_manifold import evaluation

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "audit.md"


def test_the_examples_run():
    # Fences are cut out first: to doctest one would be part of the expected output.
    text = re.sub(r"^```.*$", "", PAGE.read_text(), flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 15
    told = []
    results = doctest.DocTestRunner().run(test, out=told.append)
    assert results.failed == 0, "".join(told)


def test_every_check_has_a_row_in_order():
    rows = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), flags=re.MULTILINE)
    assert tuple(rows) == evaluation.AUDIT_CHECKS
