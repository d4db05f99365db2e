"""docs/adapters.md: the examples of each section run, where its framework is there."""

import doctest
import pathlib
import re

import pytest

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "adapters.md"
NEEDS = {"Equinox": "equinox", "Haiku": "haiku", "PyTorch": "torch"}

HEAD, *SECTIONS = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
BY_TITLE = {section.partition("\n")[0]: section for section in SECTIONS}


@pytest.mark.parametrize("title", [name for name in BY_TITLE if name != "ONNX"])
def test_the_examples_run(title):
    if package := NEEDS.get(title):
        pytest.importorskip(package, reason=f"{package} is not installed")
    # Fences are cut out first: to doctest one would be part of the expected output.
    text = re.sub(r"^```.*$", "", HEAD + BY_TITLE[title], flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(test.examples) > 6
    told = []
    results = doctest.DocTestRunner().run(test, out=told.append)
    assert results.failed == 0, "".join(told)
