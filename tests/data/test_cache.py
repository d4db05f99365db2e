import contextlib
import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pil

from robust_manifold import data
from robust_manifold.core.errors import UsageError
from robust_manifold.data import cache
from robust_manifold.data.prepare.build import prepare
from robust_manifold.data.sources import Folder, Tfds


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def decodings(monkeypatch):
    """The sources that were decoded, in order."""
    seen = []
    for kind in (Folder, Tfds):

        def decode(self, on_progress=None, original=kind.decode):
            seen.append(self)
            return original(self, on_progress)

        monkeypatch.setattr(kind, "decode", decode)
    return seen


@pytest.fixture
def said(caplog):
    """Returns the warnings since it was last called."""
    caplog.set_level(logging.INFO, logger="robust_manifold")

    def warnings():
        found = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
        caplog.clear()
        return found

    return warnings


def assert_equal(a, b):
    assert a.class_names == b.class_names
    for mine, other in zip(a[1:4], b[1:4], strict=True):
        for x, y in zip(mine, other, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


def stored(root, name):
    (path,) = root.glob(f"images/*/{name}")
    return path


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)


# ---------------------------------------------------------------- kept


def test_what_is_kept_is_what_is_decoded(root, image_folder, decodings, said):
    source = f"folder:{image_folder}"
    plain = data.load(source, cache_dir="off")
    seen = []
    for _ in range(3):
        kept = data.load(source, cache_dir=root, on_progress=lambda *d: seen.append(d))
        assert_equal(kept, plain)
        # PyTorch warns of arrays that may not be written to.
        assert kept.train.labels.flags.writeable
        assert seen.pop() == (6, 6) and not seen
    assert len(decodings) == 2
    assert said() == []


def test_each_framing_and_each_folder_is_kept_apart(root, image_folder, decodings):
    source = f"folder:{image_folder}"
    wishes = [{}, {"crop": 3}, {"crop": 3, "image_size": 2}, {"max_examples": 4}]
    shapes = [
        data.load(source, cache_dir=root, **wish).train.images.shape
        for wish in wishes * 2
    ]
    assert shapes == 2 * [(6, 6, 4, 1), (6, 3, 3, 1), (6, 2, 2, 1), (4, 6, 4, 1)]
    other = shutil.copytree(image_folder, image_folder.parent / "other")
    data.load(f"folder:{other}", cache_dir=root)
    # Another way to write the first path is not another source.
    data.load(f"folder:{other}/../{image_folder.name}", cache_dir=root)
    assert len(decodings) == 5


def test_all_labels_share_the_pixels(root, tmp_path, faces, decodings):
    prepare("celeb_a", tmp_path / "prepared", faces)

    def load(label, cache_dir):
        return data.load(
            "tfds:celeb_a",
            data_dir=tmp_path / "prepared",
            label=label,
            cache_dir=cache_dir,
            image_size=8,
        )

    for label in ("Male", "Young", "attributes/Male"):
        assert_equal(load(label, root), load(label, "off"))
    assert load("Male", root).train.labels.sum() == 1
    assert load("Young", root).train.labels.sum() == 0
    assert len([d for d in decodings if d.label == "Male"]) == 2
    assert len(decodings) == 4
    with pytest.raises(UsageError, match="Did you mean 'Male'"):
        load("male", root)


def test_official_splits_are_kept(root, tmp_path, idx_folder, decodings):
    folder = tmp_path / "prepared"
    prepare("mnist", folder, idx_folder)
    plain = data.load("tfds:mnist", data_dir=folder, cache_dir="off")
    for _ in range(2):
        assert_equal(data.load("tfds:mnist", data_dir=folder, cache_dir=root), plain)
    assert len(decodings) == 2


def test_sources_of_one_file_are_not_kept(root, tmp_path):
    images = np.zeros((3, 4, 4), np.uint8)
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(3))
    data.load(f"npz:{tmp_path / 'a.npz'}", cache_dir=root)
    assert not root.exists()


# ---------------------------------------------------------------- where


def test_the_folder_of_the_cache(monkeypatch):
    monkeypatch.delenv("ROBUST_MANIFOLD_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    for unset in ("", None):
        assert cache.root_folder(unset) == Path("/home/ada/.cache/robust_manifold")
    assert cache.root_folder("off") is None
    assert cache.root_folder("~/c") == Path("/home/ada/c")
    monkeypatch.setenv("ROBUST_MANIFOLD_CACHE", "/scratch/c")
    assert cache.root_folder(None) == Path("/scratch/c")
    assert cache.root_folder("/d") == Path("/d")
    monkeypatch.setenv("ROBUST_MANIFOLD_CACHE", "off")
    assert cache.root_folder("") is None
    with pytest.raises(UsageError, match="^cache_dir is '~nobody-here/c'; allowed: "):
        cache.root_folder("~nobody-here/c")


def test_off_is_off(tmp_path, monkeypatch, image_folder):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    data.load(f"folder:{image_folder}", cache_dir="off")
    data.load(f"folder:{image_folder}")  # as the environment says here
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written(image_folder, said):
    plain = data.load(f"folder:{image_folder}", cache_dir="off")
    kept = data.load(f"folder:{image_folder}", cache_dir="/dev/null/cache")
    assert_equal(kept, plain)
    (warning,) = said()
    assert "cannot be kept in /dev/null/cache/images/" in warning
    assert "(Not a directory)" in warning and "choose another cache_dir" in warning


def test_a_file_system_without_locks(root, image_folder, decodings, said, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    data.load(f"folder:{image_folder}", cache_dir=root)
    monkeypatch.setattr(cache.fcntl, "flock", no_locks)
    # What is there is read; what is not is decoded every time.
    data.load(f"folder:{image_folder}", cache_dir=root)
    assert len(decodings) == 1 and said() == []
    data.load(f"folder:{image_folder}", cache_dir=root, crop=2)
    assert len(decodings) == 2
    (warning,) = said()
    assert "(No locks available)" in warning
    # Damage is named though it cannot be repaired.
    path = stored(root, "train-images.npy")
    flip(path)
    data.load(f"folder:{image_folder}", cache_dir=root)
    warnings = said()
    assert "(No locks available)" in warnings[0]
    assert warnings[1].startswith(f"{path} is damaged (checksum ")
    shutil.rmtree(image_folder)
    with pytest.raises(UsageError, match="is damaged .* are gone; bring them back: "):
        data.load(f"folder:{image_folder}", cache_dir=root)


def test_a_full_disk(root, image_folder, said, monkeypatch):
    written = []

    def write(path, array, original=cache.write_array):
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        return original(path, array)

    monkeypatch.setattr(cache, "write_array", write)
    kept = data.load(f"folder:{image_folder}", cache_dir=root)
    assert_equal(kept, data.load(f"folder:{image_folder}"))
    (warning,) = said()
    assert "(No space left on device) and are decoded in every run" in warning
    assert written and not written[0].exists()


# ---------------------------------------------------------------- damage


FILES = [f"train-{name}.npy" for name in ("images", "labels", "ids")]


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("how", ["flipped", "short", "empty"])
def test_damage_is_noticed_and_repaired(root, image_folder, decodings, said, name, how):
    plain = data.load(f"folder:{image_folder}", cache_dir=root)
    path = stored(root, name)
    whole = path.read_bytes()
    if how == "flipped":
        flip(path)
    else:
        path.write_bytes(whole[: len(whole) // 2] if how == "short" else b"")
    assert_equal(data.load(f"folder:{image_folder}", cache_dir=root), plain)
    (warning,) = said()
    assert str(path) in warning and "is damaged" in warning
    assert warning.endswith("are decoded again.") and "\n" not in warning
    assert path.read_bytes() == whole
    assert_equal(data.load(f"folder:{image_folder}", cache_dir=root), plain)
    assert len(decodings) == 2 and said() == []


def test_a_file_that_is_gone_is_made_again(root, image_folder, said):
    plain = data.load(f"folder:{image_folder}", cache_dir=root)
    path = stored(root, "train-ids.npy")
    path.unlink()
    assert_equal(data.load(f"folder:{image_folder}", cache_dir=root), plain)
    assert f"{path} cannot be read (No such file or directory)" in said()[0]
    # The user may delete an entry, and this is not damage.
    shutil.rmtree(path.parent)
    assert_equal(data.load(f"folder:{image_folder}", cache_dir=root), plain)
    assert said() == []


def test_a_source_that_is_gone(root, image_folder, said):
    source = f"folder:{image_folder}"
    plain = data.load(source, cache_dir=root)
    shutil.rmtree(image_folder)
    assert_equal(data.load(source, cache_dir=root), plain)
    (warning,) = said()
    assert f"The files of '{source}' are gone; its images are read from" in warning
    path = stored(root, "train-images.npy")
    flip(path)
    with pytest.raises(UsageError) as error:
        data.load(source, cache_dir=root)
    message = str(error.value)
    assert message.startswith(f"{path} is damaged (checksum ")
    assert "the files that it was decoded from are gone; bring them back: " in message
    assert message.endswith(f"The data folder '{image_folder}' does not exist.")
    assert "\n" not in message and said() == []


def test_a_source_that_was_never_there(root, tmp_path):
    with pytest.raises(UsageError, match="^The data folder '.*' does not exist.$"):
        data.load(f"folder:{tmp_path / 'pets'}", cache_dir=root)
    assert not root.exists()


def test_names_that_are_not_utf8(root, image_folder, decodings):
    file = os.fsencode(image_folder / "dog" / "1.png")
    os.rename(file, file.replace(b"1.png", b"\xff.png"))
    for _ in range(2):
        assert data.load(f"folder:{image_folder}", cache_dir=root).train.size == 6
    assert len(decodings) == 1


# ---------------------------------------------------------------- changes


def change(folder: Path, how: str) -> None:
    file = folder / "dog" / "1.png"
    status = file.stat()
    match how:
        case "pixels":
            pil.fromarray(np.full((6, 4), 7, np.uint8)).save(file)
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        case "more":
            shutil.copy(file, folder / "dog" / "9.png")
        case "fewer":
            file.unlink()
        case "class":
            (folder / "dog").rename(folder / "ant")


@pytest.mark.parametrize("how", ["pixels", "more", "fewer", "class"])
def test_a_changed_source_is_decoded_again(root, image_folder, decodings, said, how):
    source = f"folder:{image_folder}"
    before = data.load(source, cache_dir=root)
    change(image_folder, how)
    plain = data.load(source, cache_dir="off")
    with pytest.raises(AssertionError):
        assert_equal(before, plain)
    for _ in range(2):
        assert_equal(data.load(source, cache_dir=root), plain)
    assert len(decodings) == 3 and said() == []
    assert len(list(root.glob("images/*"))) == 1


def test_another_decoder_decodes_again(root, image_folder, decodings, monkeypatch):
    data.load(f"folder:{image_folder}", cache_dir=root)
    version = cache.pillow.version
    newer = {"pil": "99.0.0"}
    monkeypatch.setattr(
        cache.pillow, "version", lambda name: newer.get(name) or version(name)
    )
    data.load(f"folder:{image_folder}", cache_dir=root)
    assert len(decodings) == 2


def test_an_entry_of_another_format_does_not_count(
    root, image_folder, decodings, monkeypatch
):
    source = f"folder:{image_folder}"
    data.load(source, cache_dir=root)
    monkeypatch.setattr(cache, "_FORMAT", 99)
    for _ in range(2):
        data.load(source, cache_dir=root)
    assert len(decodings) == 2
    monkeypatch.setattr(cache, "_FORMAT", 100)
    shutil.rmtree(image_folder)
    # Not even where there is no other.
    with pytest.raises(UsageError, match="^The data folder '.*' does not exist.$"):
        data.load(source, cache_dir=root)


def test_a_data_set_that_is_linked_to(root, tmp_path, idx_folder, decodings):
    folder = tmp_path / "prepared"
    prepare("mnist", folder, idx_folder)
    moved = (folder / "mnist" / "3.0.1").rename(tmp_path / "elsewhere")
    (folder / "mnist" / "3.0.1").symlink_to(moved)
    for _ in range(2):
        data.load("tfds:mnist", data_dir=folder, cache_dir=root)
    assert len(decodings) == 1
    shard = next(moved.glob("*train*array_record*"))
    os.utime(shard, ns=(0, 0))
    data.load("tfds:mnist", data_dir=folder, cache_dir=root)
    assert len(decodings) == 2


def test_a_data_set_turned_into_tfrecord(root, tmp_path, idx_folder):
    folder = tmp_path / "prepared"
    prepare("mnist", folder, idx_folder)
    data.load("tfds:mnist", data_dir=folder, cache_dir=root)
    path = folder / "mnist/3.0.1/dataset_info.json"
    info = json.loads(path.read_text()) | {"fileFormat": "tfrecord"}
    path.write_text(json.dumps(info))
    for shard in path.parent.glob("*.array_record-*"):
        shard.rename(str(shard).replace("array_record", "tfrecord"))
    with pytest.raises(UsageError) as error:
        data.load("tfds:mnist", data_dir=folder, cache_dir=root)
    message = str(error.value)
    assert "has the format tfrecord; allowed: array_record, so delete" in message
    assert "prepare it with: python -m robust_manifold" in message


# ---------------------------------------------------------------- processes


# Loads a folder; its decoding says so and goes on when a line comes in.
LOAD = """
    import sys
    from robust_manifold import data
    from robust_manifold.data.sources import Folder
    from robust_manifold.runtime import console

    def decode(self, on_progress=None, original=Folder.decode):
        print("decoding", flush=True)
        sys.stdin.readline()
        return original(self, on_progress)

    Folder.decode = decode
    console.setup()
    train = data.load(f"folder:{sys.argv[1]}", cache_dir=sys.argv[2]).train
    print(train.images.ravel().tolist(), train.labels.tolist(), flush=True)
"""


def start(code, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def two_processes(root, image_folder):
    """Two processes on an empty cache: the first decodes, the second waits."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(start(LOAD, image_folder, root))
        stack.callback(first.kill)
        assert first.stdout.readline() == "decoding\n"
        second = stack.enter_context(start(LOAD, image_folder, root))
        stack.callback(second.kill)
        # Should it decode and not wait, it is to end, not to hang.
        second.stdin.write("\n")
        second.stdin.flush()
        waits = f"Waiting for process {first.pid} on "
        line = next((line for line in second.stderr if waits in line), None)
        assert line is not None, "the second process did not wait"
        assert "which is decoding the images of 'folder:" in line
        yield first, second


def shown(image_folder):
    train = data.load(f"folder:{image_folder}").train
    return f"{train.images.ravel().tolist()} {train.labels.tolist()}\n"


def test_of_two_processes_one_decodes(image_folder, two_processes):
    first, second = two_processes
    assert first.communicate("\n")[0] == shown(image_folder)
    # It never came to decode.
    assert second.communicate()[0] == shown(image_folder)
    assert first.returncode == second.returncode == 0


def test_when_the_one_is_killed_the_other_decodes(image_folder, two_processes):
    first, second = two_processes
    first.kill()
    first.communicate()
    assert first.returncode == -signal.SIGKILL
    assert second.communicate()[0] == f"decoding\n{shown(image_folder)}"
    assert second.returncode == 0


@pytest.mark.parametrize("before", [1, 2, 3])
def test_a_process_killed_while_it_writes(root, image_folder, decodings, said, before):
    killed = start(
        """
        import os, signal, sys
        from robust_manifold import data
        from robust_manifold.data import stored

        replaced = []

        def replace(partial, path, original=os.replace):
            replaced.append(path)
            if len(replaced) > int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)
            original(partial, path)

        os.replace = replace
        data.load(f"folder:{sys.argv[1]}", cache_dir=sys.argv[2])
        """,
        image_folder,
        root,
        before,
    )
    _, errors = killed.communicate()
    assert killed.returncode == -signal.SIGKILL, errors
    assert len(list(root.glob("images/*/*.npy"))) == before
    plain = data.load(f"folder:{image_folder}", cache_dir="off")
    for _ in range(2):
        assert_equal(data.load(f"folder:{image_folder}", cache_dir=root), plain)
    assert len(decodings) == 2 and said() == []
    names = {path.name for path in root.glob("images/*/*")}
    assert names - {".manifest.json.partial"} == {*FILES, "manifest.json", "lock"}


def test_the_source_of_an_entry_is_written_in_it(root, image_folder):
    data.load(f"folder:{image_folder}", cache_dir=root)
    manifest = json.loads(stored(root, "manifest.json").read_text())
    assert manifest["content"]["source"] == f"folder:{image_folder}"
