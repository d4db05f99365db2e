"""`robust-manifold evaluate`: a file's arguments, a folder, and what is refused."""

import sys

import numpy as np
import pytest

import robust_manifold
from robust_manifold.robustness import audited, command, one_call
from tests.conftest import Ended
from tests.robustness.pixels import IMAGES, LABELS

FILE = """
from tests.robustness import pixels

RADII = {{"linf": 0.1}}

def evaluation(name="levels"):
    return {{
        "classifier": pixels.CLASSIFIER,
        "images": pixels.IMAGES,
        "labels": pixels.LABELS,
        "defence": getattr(pixels, name),
        "epsilons": RADII,
        "effort": pixels.EFFORT,
        {more}
    }}
"""
PLAIN = FILE.format(more="")


@pytest.fixture
def called(tmp_path, monkeypatch, capsys):
    """Returns how the command ends in a folder of its own that has `mine.py`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(command.devices, "initialise", lambda: None)

    def call(*arguments, text=PLAIN):
        (tmp_path / "mine.py").write_text(text)
        capsys.readouterr()
        try:
            code = command.main(arguments)
        except SystemExit as ending:
            code = ending.code
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def asked(called, monkeypatch):
    """Returns what a command line asks of `evaluate`."""

    def ask(*arguments, **options):
        found = {}

        def evaluate(classifier, images, labels, **more):
            found.update(more, classifier=classifier, images=images, labels=labels)
            raise KeyboardInterrupt

        monkeypatch.setattr(command, "evaluate", evaluate)
        ended = called(*arguments, **options)
        assert (ended.code, ended.out) == (130, "")
        assert "the same command goes on from there" in ended.error
        return found

    return ask


def test_it_prints_stores_and_goes_on(called, tmp_path, monkeypatch):
    monkeypatch.setattr(audited, "audit", lambda *given, **options: [])
    ended = called("mine.py")
    assert ended.code == 0
    assert ended.out.startswith("levels: 60 images, effort(steps=3, aimed_steps=0, ")
    folder = tmp_path / "evaluations" / "mine"
    assert {"report.html", "round-000.npz"} <= {each.name for each in folder.iterdir()}
    found = robust_manifold.Evaluation.load(folder)
    assert ended.out.startswith(str(found))
    np.testing.assert_array_equal(found.labels, LABELS)
    # Called again, nothing is made again; what is asked otherwise is another one.
    monkeypatch.setattr(one_call, "made", None)
    again = called("mine.py")
    assert (again.code, again.out) == (0, ended.out)
    other = called("mine.py", "--linf=0.2")
    assert other.code == 2 and "holds the results of another evaluation" in other.error
    assert called("mine.py", "--linf=0.2", "--folder=evaluations/mine").code == 2


def test_what_the_file_gives_can_be_changed(asked):
    given = asked("mine.py")
    assert given["epsilons"] == {"linf": 0.1} and len(given["images"]) == len(IMAGES)
    options = "--linf=0.1,0.3", "--l2=1.5", "--effort=quick", "--examples=7"
    given = asked("mine.py", *options, "--folder=here")
    assert given["epsilons"] == {"linf": (0.1, 0.3), "l2": (1.5,)}
    assert (given["effort"], str(given["folder"])) == ("quick", "here")
    np.testing.assert_array_equal(given["images"], IMAGES[:7])
    np.testing.assert_array_equal(given["labels"], LABELS[:7])


def test_a_file_has_variants(asked):
    given = asked("mine.py:noisy")
    assert given["defence"].__name__ == "noisy"
    assert str(given["folder"]) == "evaluations/mine-noisy"


def test_what_lies_beside_a_file_can_be_imported(asked, tmp_path):
    (tmp_path / "network_beside.py").write_text("LABELS = [0, 1]")
    text = "from network_beside import LABELS\n" + FILE.format(more="'labels': LABELS")
    assert asked("mine.py", text=text)["labels"] == [0, 1]


NEEDED = "a dict of classifier, images, labels, and any of defence, networks, "
TEXTS = {
    "x = 1": "mine.py defines no function evaluation(); allowed: one that returns a",
    "evaluation = 3": "mine.py defines no function evaluation(); allowed: one that",
    "\ndef evaluation(:": "mine.py fails in line 2 (SyntaxError: invalid syntax",
    "import nowhere": "mine.py fails in line 1 (ModuleNotFoundError: No module named",
    "def evaluation():\n  return 1 / 0": "mine.py fails in line 2 (ZeroDivisionError: ",
    "exit(3)": "mine.py fails in line 1 (SystemExit: 3)",
    "def evaluation(): pass": "evaluation() of mine.py returns a NoneType; allowed: "
    + NEEDED,
    "def evaluation(): return {'images': 1}": "evaluation() of mine.py returns no "
    "classifier; allowed: " + NEEDED,
    FILE.format(more="'defense': None"): "Unknown argument of evaluation(): 'defense'; "
    "known: checks, classifier, defence, ",
    FILE.format(more="'images': 3"): "images have shape (); allowed: ",
    FILE.format(more="'folder': 'x'"): "Unknown argument of evaluation(): 'folder'; ",
}


@pytest.mark.parametrize("text", TEXTS)
def test_a_file_that_is_wrong_is_one_sentence(text, called):
    ended = called("mine.py", "--examples=5", text=text)
    assert (ended.code, ended.out) == (2, "")
    assert ended.error.startswith(f"robust_manifold: {TEXTS[text]}")
    assert ended.error.count("\n") == 1


LINES = {
    ("nowhere.py",): "FILE.py is 'nowhere.py'; allowed: an existing Python file",
    (".",): "FILE.py is '.'; allowed: an existing Python file.",
    (): "The following arguments are required: FILE.py; see --help.",
    ("mine.py", "--linf=a"): "--linf is 'a'; allowed: radii, such as 0.1,0.3.",
    ("mine.py", "--linf=-1"): "epsilons of linf is (-1.0,); allowed: ",
    ("mine.py", "--effort=fast"): "Unknown effort 'fast'; known: quick, standard, ",
    ("mine.py", "--examples=0"): "--examples is 0; allowed: 1 or more.",
    ("mine.py", "--folder=mine.py"): "folder is 'mine.py', which cannot be used (Not ",
    ("mine.py", "--eps=1"): "Unrecognized arguments: --eps=1; see --help.",
}


@pytest.mark.parametrize("line", LINES)
def test_a_command_that_is_wrong_is_one_sentence(line, called):
    ended = called(*line)
    assert (ended.code, ended.out) == (2, "")
    assert ended.error.startswith(f"robust_manifold: {LINES[line]}")
    assert ended.error.count("\n") == 1
