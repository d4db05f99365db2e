"""Published weights are read only as they were published."""

import hashlib
import re

import numpy as np
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import published, weight_files

TABLE = {"params/Dense_0/bias": np.arange(3, dtype=np.float32)}
METADATA = {"model": "linear"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Returns a folder of published weights, the only one that is looked at."""
    place = tmp_path / published.FOLDER
    monkeypatch.setattr(published, "PLACES", (tmp_path / "nowhere", place))
    data = weight_files.encode(published.EXTENSION, TABLE, METADATA)
    published.enter(place, {"tiny.safetensors": data, "tiny.md": b"# tiny\n"})
    return place


def test_what_is_published_is_read(folder):
    table, metadata = published.read("tiny")
    assert metadata == METADATA
    np.testing.assert_array_equal(table["params/Dense_0/bias"], np.arange(3))


def test_checksums_are_what_the_usual_tool_reads(folder):
    published.enter(folder, {"other.safetensors": b"more"})
    sums = published.checksums(folder)
    assert list(sums) == ["other.safetensors", "tiny.md", "tiny.safetensors"]
    lines = (folder / published.CHECKSUMS).read_text().splitlines()
    for (name, expected), line in zip(sums.items(), lines, strict=True):
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == expected
        # As `sha256sum` writes them: the sum, two spaces, the name.
        assert line == f"{expected}  {name}"


def test_publishing_again_replaces(folder):
    data = weight_files.encode(published.EXTENSION, TABLE, {"model": "other"})
    published.enter(folder, {"tiny.safetensors": data})
    assert published.read("tiny").metadata == {"model": "other"}
    assert len(published.checksums(folder)) == 2


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("position", [0, 30, -1])
def test_a_flipped_byte_of_the_weights_is_told(folder, position):
    flip(folder / "tiny.safetensors", position)
    with pytest.raises(UsageError) as raised:
        published.read("tiny")
    assert re.fullmatch(
        r".*tiny\.safetensors is damaged \(checksum [0-9a-f]{8}, published "
        r"[0-9a-f]{8}\); take the file as published: install the package again, or in "
        r"a checkout: git checkout -- pretrained/tiny\.safetensors\.",
        str(raised.value),
    )


def test_any_flipped_byte_of_the_checksums_is_told(folder):
    path = folder / published.CHECKSUMS
    whole = path.read_bytes()
    start = whole.index(b"\n") + 1
    # Of the line of the weights: all its bytes but the line's end.
    for position in range(start, len(whole) - 1):
        flip(path, position)
        with pytest.raises(UsageError, match=r"damaged|Unknown published weights"):
            published.read("tiny")
        path.write_bytes(whole)
    assert published.read("tiny")


def test_an_empty_list_of_checksums_is_told(folder):
    (folder / published.CHECKSUMS).write_bytes(b"")
    with pytest.raises(UsageError, match=r"SHA256SUMS is damaged \(empty\); take the"):
        published.read("tiny")


def test_weights_exchanged_for_others_are_refused(folder):
    # A whole file with the right name, but not the one that was published.
    weight_files.write(folder / "tiny.safetensors", TABLE, {"model": "wong_cnn"})
    with pytest.raises(UsageError, match="tiny.safetensors is damaged"):
        published.read("tiny")


def test_a_missing_file_is_told(folder):
    (folder / "tiny.safetensors").unlink()
    with pytest.raises(UsageError, match=r"tiny\.safetensors cannot be read \(No such"):
        published.read("tiny")


def test_an_unknown_name_is_told_with_the_nearest(folder):
    with pytest.raises(UsageError, match="'tiby'; known: tiny. Did you mean 'tiny'"):
        published.read("tiby")


def test_one_s_own_are_read_where_nothing_else_is(folder, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(
        published, "PLACES", (folder.parent / "nowhere", published.PLACES[1])
    )
    monkeypatch.chdir(folder.parent)
    assert published.read("tiny").metadata == METADATA


def test_one_s_own_are_found_beside_those_of_the_checkout(folder, monkeypatch):
    checkout = folder.parent / "checkout"
    data = weight_files.encode(published.EXTENSION, TABLE, {"model": "theirs"})
    published.enter(checkout, {"theirs.safetensors": data, "tiny.safetensors": data})
    monkeypatch.setattr(published, "PLACES", (checkout, folder))
    published.enter(folder, {"mine.safetensors": data})
    assert published.read("mine").metadata == {"model": "theirs"}
    # The checkout's come first, and all are told.
    assert published.read("tiny").metadata == {"model": "theirs"}
    with pytest.raises(UsageError, match="'other'; known: mine, theirs, tiny"):
        published.read("other")


def test_an_unwritable_folder_is_told(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for place in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(UsageError, match=r"--folder is .*file.*cannot be written"):
            published.enter(place, {"tiny.md": b"# tiny\n"})


@pytest.mark.parametrize("name", ["", "a b", "../a", "a/b", ".a", "a.safetensors", "ä"])
def test_a_name_that_the_checksums_could_not_hold_is_refused(name):
    with pytest.raises(UsageError, match=r"--name is '.*'; allowed: letters, digits"):
        published.check_name(name)


def test_all_that_the_repository_publishes_is_whole_and_small():
    folder, _ = published.PLACES
    sums = published.checksums(folder)
    assert {path.name for path in folder.iterdir()} == {*sums, published.CHECKSUMS}
    for name, expected in sums.items():
        data = (folder / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == expected, name
        if name.endswith(published.EXTENSION):
            assert len(data) <= 7_000_000, name
            # Its card says the same.
            card = (folder / name).with_suffix(".md").read_text()
            assert expected in card and "/tmp" not in card and "/home" not in card
