"""The pages: their examples run, their commands can be typed, their files exist."""

import doctest
import pathlib
import re
import shlex

import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from robust_manifold import command_line

ROOT = pathlib.Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
}
ALONE = ("docs/adapters.md", "docs/evaluate.md")
"""Run in test files of their own: frameworks may be missing, and times differ."""
MADE = "docs/results.md"
"""Is made of runs that were, with the commands that were typed then."""
LONGEST = {MADE: 200} | {
    str(path.relative_to(ROOT)): 400 for path in ROOT.glob("docs/results/*.md")
}
"""In lines: the front page is read at once, another one in a sitting."""
EXPERIMENT = re.compile(r"(?:-m robust_manifold\.main|robust-manifold run) ([^&]+)")


def blocks(text):
    """Returns the code of a page, without the fences."""
    return re.findall(r"^```\w*\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def commands(text):
    """Returns the arguments of each command that runs an experiment."""
    lines = "".join(blocks(text)).replace("\\\n", " ").splitlines()
    found = [match[1] for line in lines if (match := EXPERIMENT.search(line))]
    return [shlex.split(line, comments=True) for line in found if "$" not in line]


@pytest.mark.parametrize(
    "page",
    [page for page, text in PAGES.items() if ">>> " in text and page not in ALONE],
)
def test_the_examples_run(page):
    # Fences are cut out first: to doctest one would be part of the expected output.
    text = re.sub(r"^```.*$", "", PAGES[page], flags=re.MULTILINE)
    test = doctest.DocTestParser().get_doctest(text, {}, page, page, 0)
    told = []
    results = doctest.DocTestRunner().run(test, out=told.append)
    assert results.failed == 0, "".join(told)


@pytest.mark.parametrize(
    "page", [page for page, text in PAGES.items() if commands(text) and page != MADE]
)
def test_the_commands_can_be_typed(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for arguments in commands(PAGES[page]):
        values = flags.FlagValues()
        command_line.define_flags(values)
        # ml_collections looks for the keys that are changed there.
        monkeypatch.setattr("sys.argv", ["main", *arguments])
        command_line.parse(["main", *arguments], values)
        command_line.arguments(values)


def test_there_are_commands_to_be_typed():
    assert sum(len(commands(text)) for text in PAGES.values()) > 5


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_what_a_page_links_to_exists(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", PAGES[page]):
        assert ((ROOT / page).parent / target).exists(), target


def test_every_page_has_a_place_in_the_site():
    listed = re.findall(r"^(?:.*<)?([\w/]+)>?$", PAGES["docs/index.md"], re.MULTILINE)
    pages = {pathlib.Path(page).stem for page in PAGES if page.startswith("docs/")}
    assert pages - {"index"} <= set(listed)


def test_the_readme_is_short():
    lines = PAGES["README.md"].splitlines()
    assert len(lines) <= 150
    cells = [cell for line in lines if line[:1] == "|" for cell in line.split("|")]
    assert cells and max(map(len, cells)) <= 88


@pytest.mark.slow
def test_the_code_of_the_readme_runs(capsys):
    def apply(params, image):
        return image.reshape(-1) @ params

    labels = np.arange(24) % 3
    noise = np.random.default_rng(0).uniform(0.2, 0.4, (24, 4))
    images = np.float32(noise + 0.3 * np.eye(3, 4)[labels]).reshape(24, 2, 2, 1)
    names = {"apply": apply, "params": jnp.eye(4, 3), "images": images}
    codes = re.findall(r"^```python\n(.*?)^```$", PAGES["README.md"], re.DOTALL | re.M)
    assert len(codes) == 2
    for code in codes:
        exec(code, names | {"labels": labels})
    assert "rounded: 24 images, effort quick\nFLAG" in capsys.readouterr().out


@pytest.mark.parametrize("page", LONGEST)
def test_a_page_is_no_longer_than_its_readers_have_time_for(page):
    assert len((ROOT / page).read_text().splitlines()) <= LONGEST[page]
