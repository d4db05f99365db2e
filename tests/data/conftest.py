"""Tiny data sets of every kind, written anew for each session."""

import gzip
import os
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pil


@pytest.fixture(autouse=True)
def own_temporary_folder(tmp_path, monkeypatch):
    """tensorflow-datasets leaves an empty folder for each builder it opens."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    """Keeps the user's own cache of images out of the tests."""
    monkeypatch.setenv("ROBUST_MANIFOLD_CACHE", "off")


@pytest.fixture(scope="session")
def digits():
    """Random images and labels of the shape of MNIST, by split."""
    random = np.random.default_rng(0)
    return {
        split: (
            random.integers(0, 256, (n, 28, 28), np.uint8),
            random.permutation(np.arange(n) % 10).astype(np.uint8),
        )
        for split, n in {"train": 60, "test": 20}.items()
    }


def write_idx(path: Path, array: np.ndarray) -> None:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def idx_folder(tmp_path, digits):
    """The four files of MNIST, some packed and some not."""
    folder = tmp_path / "idx"
    folder.mkdir()
    write_idx(folder / "train-images-idx3-ubyte.gz", digits["train"][0])
    write_idx(folder / "train-labels-idx1-ubyte", digits["train"][1])
    write_idx(folder / "t10k-images-idx3-ubyte", digits["test"][0])
    write_idx(folder / "t10k-labels-idx1-ubyte.gz", digits["test"][1])
    return folder


@pytest.fixture
def image_folder(tmp_path):
    """Two classes of three grey 6x4 images, PNG and JPEG."""
    root = tmp_path / "pets"
    for k, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(3):
            image = pil.fromarray(np.full((6, 4), 100 * k + 10 * i, np.uint8))
            image.save(root / name / f"{i}.{'jpeg' if i == 2 else 'png'}")
    (root / ".hidden").mkdir()
    (root / "cat" / ".hidden").write_text("not an image")
    return root


@pytest.fixture
def faces(tmp_path):
    """Files like CelebA's, with four faces of which two are for training."""
    from tensorflow_datasets.datasets.celeb_a import celeb_a_dataset_builder as official

    folder = tmp_path / "faces"
    folder.mkdir()
    names = [f"{i:06d}.jpg" for i in range(1, 5)]
    attributes = official.ATTR_HEADINGS
    males = [1, -1, 1, -1]
    with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
        for i, name in enumerate(names):
            image = pil.fromarray(np.full((218, 178, 3), 60 * i, np.uint8))
            image.save(folder / name)
            archive.write(folder / name, f"img_align_celeba/{name}")
            (folder / name).unlink()
    lines = [
        f"{name} " + " ".join(str(male if a == "Male" else -1) for a in attributes)
        for name, male in zip(names, males, strict=True)
    ]
    text = "\n".join(["4", " ".join(attributes), *lines, ""])
    (folder / "list_attr_celeba.txt").write_text(text)
    partition = "".join(f"{n} {p}\n" for n, p in zip(names, (0, 0, 1, 2), strict=True))
    (folder / "list_eval_partition.txt").write_text(partition)
    return folder


@pytest.fixture
def tfds_dir():
    """The real prepared data sets, where this machine has them."""
    folder = os.environ.get("TFDS_DATA_DIR", "")
    if not os.path.isdir(os.path.join(folder, "mnist")):
        pytest.skip("TFDS_DATA_DIR names no folder with a prepared mnist")
    return folder
