"""Entries, scores and challenges: what is refused, what falls, and what is shown."""

import hashlib
import json
import re

import numpy as np
import pytest

from robust_manifold.evaluation import AUDIT_CHECKS
from robust_manifold.evaluation.cascades import Effort
from robust_manifold.leaderboard import (
    challenge,
    command,
    entry,
    isolation,
    judging,
    page,
    records,
    rules,
)
from tests.conftest import Ended

QUICK = Effort(
    steps=3,
    aimed_steps=0,
    views=1,
    all_steps=0,
    queries=0,
    dampings=(1e-3,),
    pilot=8,
    samples=2,
)
ENTRY = '''"""Rounds to four values."""
import jax.numpy as jnp

def entry():
    return {"defence": levels, "classifier": (apply, jnp.eye(4, 3)), "title": "levels"}

def apply(params, image):
    return image.reshape(-1) @ params

def levels(image):
    return jnp.round(image * 3) / 3
'''
RANDOM = (
    ENTRY.replace("def levels(image):", "def levels(key, image):")
    .replace(
        "jnp.round(image * 3) / 3", "image + 0.1 * jax.random.normal(key, image.shape)"
    )
    .replace("import jax.numpy", "import jax, jax.numpy")
)
N = 12
LABELS = np.arange(N) % 3
NOISE = np.random.default_rng(0).uniform(0.2, 0.4, (N, 4))
IMAGES = np.float32(NOISE + 0.3 * np.eye(3, 4)[LABELS]).reshape(N, 2, 2, 1)


@pytest.fixture(autouse=True)
def toy(monkeypatch, tmp_path):
    """Makes the rules those of a toy: twelve images of three pixels, one ball."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rules, "digits", lambda n=N: (IMAGES[:n], LABELS[:n]))
    monkeypatch.setattr(rules, "BALLS", {"linf": (0.1, 0.2)})
    monkeypatch.setattr(rules, "EFFORT", QUICK)
    monkeypatch.setattr(rules, "CHECKS", AUDIT_CHECKS[:2])
    monkeypatch.setattr(command, "page", lambda records: f"{len(records)} entries\n")

    def run(what, file, folder, *, trusted):
        del trusted
        return judging.main([what, str(file), str(folder)])

    monkeypatch.setattr(judging.devices, "initialise", lambda: None)
    monkeypatch.setattr(isolation, "run", run)


@pytest.fixture
def called(tmp_path, capsys):
    """Returns how a command ends."""

    def call(*arguments):
        capsys.readouterr()
        try:
            code = command.main([str(each) for each in arguments])
        except SystemExit as ending:
            code = ending.code
        return Ended(code, *capsys.readouterr())

    return call


@pytest.fixture
def scored(called, tmp_path):
    """Returns the record of an entry that was scored, by its text."""

    def score(text=ENTRY, name="levels"):
        (tmp_path / f"{name}.py").write_text(text)
        ended = called("evaluate", f"{name}.py")
        assert ended.code == 0, ended.error
        return json.loads((tmp_path / "leaderboard" / f"{name}.json").read_text())

    return score


def challenged(called, images, ids, name="levels"):
    np.savez("mine.npz", images=images, ids=ids)
    return called("challenge", name, "mine.npz", "--by=A. Name")


def test_an_entry_is_scored_and_stands_in_the_board(scored, tmp_path):
    found = scored()
    assert found["n"] == N
    assert set(found["wrong"]) == {"clean", "linf 0.1", "linf 0.2"}
    # No randomness: a digit is lost under all keys or under none.
    assert {*found["wrong"]["linf 0.2"]} <= {0, rules.KEYS}
    clean, small, large = (np.array(each) for each in found["wrong"].values())
    assert (clean <= small).all()
    assert (small <= large).all()
    assert large.sum() > clean.sum()
    assert (tmp_path / "leaderboard" / "levels.py").read_text() == ENTRY
    assert found["checksum"] == hashlib.sha256(ENTRY.encode()).hexdigest()


def test_what_fell_stays_fallen_and_another_file_needs_a_name(scored, called, tmp_path):
    kept = tmp_path / "leaderboard" / "levels.json"
    found = scored()
    lost = found | {"wrong": found["wrong"] | {"clean": [rules.KEYS] * N}}
    kept.write_text(json.dumps(lost))
    again = scored()
    # What is lost untouched is lost in every ball.
    assert all(each == [rules.KEYS] * N for each in again["wrong"].values())
    kept.write_text(json.dumps(lost | {"checksum": "0" * 64}))
    ended = called("evaluate", "levels.py")
    assert ended.code == 2
    assert "is another file than the entry levels" in ended.error


def test_a_random_entry_is_judged_under_many_keys(scored):
    counts = np.array(scored(RANDOM)["wrong"]["linf 0.2"])
    assert ((0 < counts) & (counts < rules.KEYS)).any()


def test_images_lower_the_rows_whose_balls_they_lie_in(scored, called, tmp_path):
    spared = scored()
    record = tmp_path / "leaderboard" / "levels.json"
    spared["wrong"] = {row: [0] * N for row in spared["wrong"]}
    record.write_text(json.dumps(spared))
    images = IMAGES.copy()
    pixels, places = images.reshape(N, -1), np.arange(N)
    pixels[places, LABELS] -= 0.19
    pixels[places, (LABELS + 1) % 3] += 0.19
    fooled = np.round(3 * pixels[:, :3]).argmax(1) != LABELS
    assert 0 < fooled.sum() < N
    ended = challenged(called, images, places)
    assert (ended.code, ended.error) == (0, "")
    after = json.loads(record.read_text())
    assert after["wrong"]["linf 0.2"] == list(rules.KEYS * fooled)
    assert sum(after["wrong"]["linf 0.1"]) == sum(after["wrong"]["clean"]) == 0
    assert after["challenges"][0][0] == "A. Name"
    assert after["challenges"][0][2] == {"linf 0.2": fooled.sum()}
    assert re.fullmatch("[0-9a-f]{32}", after["challenges"][0][3])
    # The same images again lower nothing.
    again = challenged(called, images, places)
    assert f"none of the {N} images lowers a row" in again.out
    assert json.loads(record.read_text()) == after


FORGED = {
    "outside every ball": (
        lambda image: image + 0.25,
        0,
        "images[1] .*: linf 0.25.*inside one",
    ),
    "outside the box": (
        lambda image: image - 1.0,
        0,
        r"images\[1\] .* outside \[0, 1\]",
    ),
    "not a number": (
        lambda image: image * np.nan,
        0,
        r"images\[1\] .* outside \[0, 1\]",
    ),
    "of no digit": (lambda image: image, N, r"ids\[1\] .* is 12; allowed: 0 to 11"),
}


@pytest.mark.parametrize("kind", FORGED)
def test_forged_images_are_refused_by_name(kind, scored, called, tmp_path):
    scored()
    record = (tmp_path / "leaderboard" / "levels.json").read_text()
    change, number, told = FORGED[kind]
    images = np.stack([IMAGES[0], change(IMAGES[0])])
    ended = challenged(called, images, [0, number])
    assert ended.code == 2
    assert re.search(told.replace("images[1] ", r"images\[1\] "), ended.error)
    assert (tmp_path / "leaderboard" / "levels.json").read_text() == record


def test_a_challenge_is_of_what_was_scored(scored, called, tmp_path):
    scored()
    (tmp_path / "leaderboard" / "levels.py").write_text(ENTRY + "\n")
    ended = challenged(called, IMAGES[:1], [0])
    assert ended.code == 2
    assert "is not what was scored" in ended.error
    assert "known: levels" in challenged(called, IMAGES[:1], [0], "level").error


def test_the_luckiest_key_is_not_what_counts():
    sought = challenge.Sought(
        IMAGES[:3], np.array([0, 0, 1]), {"linf 0.2": np.array([True, True, False])}
    )
    chosen, counted = np.array([3, 9, 20]), np.array([8, 2, 20])
    found = challenge.wrong_by_row(sought, chosen, counted, 2)
    assert found == {"linf 0.2": [2, 0]}


def test_an_entry_without_memory_is_one_sentence(monkeypatch, capsys, tmp_path):
    def load(path):
        raise MemoryError

    monkeypatch.setattr(entry, "load", load)
    assert judging.main(["score", "mine.py", str(tmp_path)]) == 2
    assert "mine.py takes more memory than there is" in capsys.readouterr().err


def test_a_file_that_is_no_npz_is_one_sentence(scored, called, tmp_path):
    scored()
    (tmp_path / "mine.txt").write_text("no")
    ended = called("challenge", "levels", "mine.txt")
    assert ended.code == 2
    assert "allowed: an npz file" in ended.error


def test_the_page_shows_records_and_nothing_forges_a_row(scored, tmp_path):
    found = scored()
    record = records.Record(
        **found
        | {"text": "a | b", "challenges": [["A", "0" * 64, {"linf 0.2": 1}, ""]]}
    )
    made = page.page([record])
    (row,) = [line for line in made.splitlines() if line.startswith("| [levels]")]
    assert row.count("|") == made.splitlines()[made.splitlines().index(row) - 1].count(
        "|"
    )
    assert "a \\| b" in made
    assert "1 at ℓ∞ 0.2" in made
    assert not entry.is_line("best](#best) | 100.0")


WRONG = {
    '"""A."""\nWEIGHTS = {"mine-a.json": "' + "0" * 64 + '"}': "WEIGHTS of",
    "def f(": "is no Python",
    "x = 1": "has no docstring",
    '"""A."""': "defines no function entry()",
    '"""A."""\ndef entry(): return 1': "returns int; allowed",
    '"""A."""\ndef entry(): return {"defense": None}': "returns ['defense']; allowed",
    '"""A."""\ndef entry(): raise ValueError("no")': "fails in line 2 (ValueError: no)",
    '"""A."""\ndef entry(): return {"defence": None, "claim": 1}': "Did you mean",
    '"""A."""\ndef entry(): return {"defence": None, "claimed": 1}': "claimed of",
    '"""A."""\nWEIGHTS = {"mine.npz": "12"}': "WEIGHTS of",
    '"""A."""\nWEIGHTS = {"mine_2.npz": "' + "0" * 64 + '"}': "WEIGHTS of",
    '"""A."""\nWEIGHTS: dict = {"mine.npz": "' + "0" * 64 + '"}': "cannot be read",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_file_that_is_wrong_is_one_sentence(text, called, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    ended = called("evaluate", "mine.py")
    assert (ended.code, ended.out) == (2, "")
    assert WRONG[text] in ended.error
    assert "Traceback" not in ended.error


def test_weights_of_another_checksum_are_refused_before_code_runs(called, tmp_path):
    (tmp_path / "mine.npz").write_bytes(b"other")
    text = '"""A."""\nWEIGHTS = {"mine.npz": "' + "0" * 64 + '"}\nopen("ran", "w")'
    (tmp_path / "mine.py").write_text(text)
    ended = called("evaluate", "mine.py")
    assert ended.code == 2
    assert "has the SHA-256" in ended.error
    assert not (tmp_path / "ran").exists()


def test_a_page_is_what_the_records_give(scored, called, tmp_path):
    scored()
    assert called("page", "--check").code == 0
    (tmp_path / "docs" / "leaderboard.md").write_text("another")
    ended = called("page", "--check")
    assert (ended.code, "not up to date" in ended.error) == (1, True)


def test_the_file_says_what_it_is_without_being_run(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text('"""What it\ndoes.\n\nMore."""\nraise SystemExit')
    assert entry.stated(path)[:2] == ("mine", "What it does. More.")
