import errno
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime.artefacts import (
    Artefacts,
    DamagedArtefact,
    npz_bytes,
    remove_partial_files,
    write_atomically,
)


def flip_byte(path, position=-1):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.fixture
def store(tmp_path):
    return Artefacts(tmp_path)


def test_round_trips(store):
    arrays = {"images": np.ones((2, 3), np.uint8), "error": np.float32(0.5)}
    store.write_npz("adversarial/pgd/round-000.npz", arrays)
    store.write_json("a.json", {"accuracy": float("inf"), "n": 5})
    store.write_text("results.csv", "é,1\n")
    again = Artefacts(store.path)
    back = again.read_npz("adversarial/pgd/round-000.npz")
    assert back.keys() == arrays.keys()
    np.testing.assert_array_equal(back["images"], arrays["images"])
    assert back["images"].dtype == np.uint8
    assert again.read_json("a.json") == {"accuracy": float("inf"), "n": 5}
    assert again.read_text("results.csv") == "é,1\n"
    again.verify()


def test_what_was_not_written_is_said_to_be(store):
    assert not store.has("a.txt")
    (store.path / "a.txt").write_text("not through the store")
    assert not store.has("a.txt")
    with pytest.raises(UsageError, match=r"a\.txt has not been written"):
        store.read_text("a.txt")


def test_one_process_alone_can_look(store, monkeypatch):
    """A report is the first process's work: to ask the others would wait for ever."""

    def agreed(value):
        raise AssertionError("the other processes are asked")

    monkeypatch.setattr("robust_manifold.runtime.artefacts.agreed", agreed)
    store.write_text("a.txt", "a")
    assert store.holds("a.txt") and not store.holds("b.txt")
    with pytest.raises(AssertionError):
        store.has("a.txt")


def test_a_deleted_file_counts_as_not_written(store):
    path = store.write_text("a.txt", "a")
    assert store.has("a.txt")
    path.unlink()
    assert not store.has("a.txt")
    store.verify()
    store.write_text("a.txt", "a")
    assert store.read_text("a.txt") == "a"


@pytest.mark.parametrize("position", [0, 5, -1])
def test_one_flipped_byte_is_found_and_named(store, position):
    path = store.write_npz("x.npz", {"a": np.arange(4)})
    flip_byte(path, position)
    message = r"x\.npz is damaged \(checksum \w{8}, stored \w{8}\): delete it and run"
    for check in (lambda: store.read_npz("x.npz"), store.verify):
        with pytest.raises(DamagedArtefact, match=message):
            check()


def test_a_truncated_file_is_found(store):
    path = store.write_text("a.txt", "abc")
    path.write_text("ab")
    with pytest.raises(DamagedArtefact, match=r"a\.txt is damaged"):
        store.read_text("a.txt")


def test_a_file_that_cannot_be_read_is_named(store):
    path = store.write_text("a.txt", "abc")
    path.unlink()
    path.mkdir()
    with pytest.raises(DamagedArtefact, match=r"a\.txt is damaged \(cannot be read"):
        store.read_text("a.txt")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": 3}', '{"files": {}}'])
def test_a_damaged_list_of_checksums_is_named(store, text):
    (store.path / "checksums.json").write_text(text)
    with pytest.raises(DamagedArtefact, match=r"checksums\.json is damaged"):
        Artefacts(store.path)


def test_npz_bytes_depend_on_the_arrays_alone(monkeypatch):
    a, b = np.arange(3), np.ones((2, 2), np.float32)
    first = npz_bytes({"a": a, "b": b})
    monkeypatch.setattr("time.localtime", lambda *_: (2040, 1, 1, 0, 0, 0, 0, 0, 0))
    assert npz_bytes({"b": b.copy(), "a": a.copy()}) == first
    assert npz_bytes({"a": a, "b": b + 1}) != first


def test_npz_refuses_what_needs_pickle():
    with pytest.raises(ValueError, match="'a' has the type object"):
        npz_bytes({"a": np.array([None])})


def test_pickled_contents_are_never_read(store):
    np.savez(store.path / "evil.npz", a=np.array([{}], dtype=object))
    store.write_bytes("evil.npz", (store.path / "evil.npz").read_bytes())
    with pytest.raises(ValueError, match="its array 'a' holds pickled objects"):
        store.read_npz("evil.npz")


@pytest.mark.parametrize("relative", ["", "/etc/x", "../x", "a/../../x"])
def test_paths_stay_inside(store, relative):
    with pytest.raises(ValueError, match="not a path inside"):
        store.write_text(relative, "x")


def test_a_process_that_is_not_the_first_reads_and_never_writes(store):
    other = Artefacts(store.path, primary=False)
    assert not other.has("a.txt")
    store.write_text("a.txt", "a")
    assert other.has("a.txt") and other.read_text("a.txt") == "a"
    other.write_text("b.txt", "b")
    other.register_tree(".")
    assert sorted(os.listdir(store.path)) == ["a.txt", "checksums.json"]


def test_trees(store):
    tree = store.path / "checkpoints" / "1"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "x").write_bytes(b"abc")
    (tree / "y").write_bytes(b"")
    assert not store.has_tree("checkpoints/1")
    with pytest.raises(UsageError, match="has not been written"):
        store.verify_tree("checkpoints/1")
    store.register_tree("checkpoints/1")
    again = Artefacts(store.path)
    assert again.has_tree("checkpoints/1")
    again.verify()

    flip_byte(tree / "d" / "x")
    with pytest.raises(DamagedArtefact, match=r"checkpoints/1/d/x is damaged \(check"):
        again.verify()
    (tree / "d" / "x").unlink()
    with pytest.raises(DamagedArtefact, match=r"d/x is damaged \(No such file"):
        again.verify_tree("checkpoints/1")
    (tree / "y").unlink()
    (tree / "d").rmdir()
    tree.rmdir()
    assert not again.has_tree("checkpoints/1")
    again.verify()


def test_what_is_entered_outlasts_a_loss_of_power(store, monkeypatch):
    """File, name and new folders are on the disk before the entry begins to be."""
    done, replace = [], os.replace

    def fsync(number):
        done.append(os.readlink(f"/proc/self/fd/{number}"))

    def replaced(source, target):
        done.append(f"to {target}")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replaced)
    store.write_text("new/a.txt", "a")
    root = store.path
    assert done == [
        f"{root}/new/.a.txt.partial",
        f"to {root}/new/a.txt",
        f"{root}/new",
        f"{root}",
        f"{root}/.checksums.json.partial",
        f"to {root}/checksums.json",
        f"{root}",
    ]


class Killed(BaseException):
    pass


def interrupt_call(monkeypatch, number):
    """Makes the given call of any function that touches the disk the last one."""
    count = iter(range(1000))

    def wrap(module, name):
        original = getattr(module, name)

        def call(*args, **kwargs):
            if next(count) == number:
                raise Killed
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    wrap(os, "fsync")
    wrap(os, "replace")


@pytest.mark.parametrize("number", range(12))
def test_a_kill_between_any_two_steps_leaves_old_new_or_nothing(
    store, number, monkeypatch
):
    store.write_text("kept.txt", "kept")
    store.write_text("a.txt", "old")
    finished = False
    with monkeypatch.context() as patch:
        interrupt_call(patch, number)
        try:
            store.write_text("a.txt", "new")
            finished = True
        except Killed:
            pass
    remove_partial_files(store.path)
    again = Artefacts(store.path)
    again.verify()
    assert again.read_text("kept.txt") == "kept"
    if again.has("a.txt"):
        assert again.read_text("a.txt") in (("new",) if finished else ("old", "new"))
    else:
        assert not finished
    # The checksums without the old one, it, the checksums: each is synced and replaced,
    # and then its folder is synced.
    assert finished == (number >= 9)
    assert not list(store.path.glob(".*"))


@pytest.mark.slow
def test_killed_at_random_moments_the_folder_is_always_readable(tmp_path):
    # The alarm has no handler, so it kills at once wherever it falls.
    code = """
import signal, sys
import numpy as np
from robust_manifold.runtime.artefacts import Artefacts
store = Artefacts(sys.argv[1])
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
turn = int(sys.argv[3])
while True:
    for i in range(10):
        turn += 1
        store.write_npz(f"rounds/{i}.npz", {"turn": np.full(20_000, turn)})
"""
    seconds = np.random.default_rng(0).uniform(0.005, 0.1, size=5)
    for trial, delay in enumerate(seconds):
        arguments = [str(tmp_path), str(delay), str(trial * 1_000_000)]
        done = subprocess.run([sys.executable, "-c", code, *arguments])
        assert done.returncode == -signal.SIGALRM
        store = Artefacts(tmp_path)
        store.verify()
        for i in range(10):
            if store.has(f"rounds/{i}.npz"):
                turn = store.read_npz(f"rounds/{i}.npz")["turn"]
                assert (turn == turn[0]).all()


def test_a_full_disk_leaves_nothing_but_what_was_there(store, monkeypatch):
    store.write_text("a.txt", "a")

    def refuse(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        for name in ("a.txt", "b/c.txt"):
            with pytest.raises(OSError) as error:
                write_atomically(store.path / name, b"b")
            assert error.value.errno == errno.ENOSPC
            assert error.value.filename == str(store.path / name)
    assert store.read_text("a.txt") == "a"
    assert not list(store.path.rglob(".*"))


def test_what_may_not_be_read_is_no_damage(store, monkeypatch):
    path = store.write_text("a.txt", "a")

    def refuse(self):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    with monkeypatch.context() as patch:
        patch.setattr(type(path), "read_bytes", refuse)
        for read in (lambda: store.read_text("a.txt"), lambda: Artefacts(store.path)):
            # Its remedy would be to delete what is whole.
            with pytest.raises(PermissionError):
                read()


@pytest.mark.parametrize(
    ("kind", "entry"),
    [
        ("files", 5),
        ("files", None),
        ("trees", {"b": 5}),
        ("trees", "b"),
        ("logs", 5),
        ("logs", {"sha256": "0"}),
        ("logs", {"bytes": 1.5, "sha256": "0"}),
        ("logs", {"bytes": 1, "sha256": None}),
    ],
)
def test_a_list_of_other_things_than_checksums_is_damage(store, kind, entry):
    store.write_text("a.txt", "a")
    path = store.path / "checksums.json"
    sums = json.loads(path.read_text())
    sums[kind]["a.txt"] = entry
    path.write_text(json.dumps(sums))
    with pytest.raises(DamagedArtefact, match="not a list of checksums"):
        Artefacts(store.path).verify()
