"""docs/evaluate.md: its examples run, and its table has every argument."""

import doctest
import inspect
import pathlib
import re

import robust_manifold

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "evaluate.md"


def test_the_examples_run():
    # Code alone, in which a blank line belongs to what is printed.
    parts = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.M)
    text = "\n".join(part.replace("\n\n", "\n<BLANKLINE>\n") for part in parts)
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 15
    told = []
    # How long it took is another time each.
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    results = runner.run(test, out=told.append)
    assert results.failed == 0, "".join(told)


def test_the_table_has_every_argument():
    heads = re.findall(r"^\| (`.*?) \|", PAGE.read_text(), re.M)
    told = re.findall(r"`(\w+)`", "".join(heads))
    given = list(inspect.signature(robust_manifold.evaluate).parameters)
    assert {*told, "networks"} == set(given[3:])
