"""Mutated files and specs: what cannot be used is a UsageError, and little is taken.

Each test draws the same examples in every run; MUTATIONS says how many all tests of
this file draw together (by default 3,000):

  MUTATIONS=100000 python -m pytest tests/test_mutated_files.py -m slow -n 0
"""

import contextlib
import dataclasses
import logging
import os
import pathlib
import resource
import warnings
from dataclasses import MISSING
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from robust_manifold import attacks, data, inversion, models
from robust_manifold.config import REGISTRIES
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry
from robust_manifold.data.attacked import AttackedImages
from robust_manifold.data.user_images import UserImages, Wanted
from robust_manifold.reporting import labels
from robust_manifold.runtime import weight_files
from tests import mutations

pytestmark = pytest.mark.slow

_LIMIT = 2 * 2**30
"""Bytes of memory that an example may take beyond what the process has."""

_SHARES = {"npz": 6, "safetensors": 4, "pictures": 6, "specs": 4}
_TOTAL = int(os.environ.get("MUTATIONS", "3000"))

outcomes: dict[str, list[int]] = {}


def examples(kind: str):
    """Returns the settings of a test of one kind of file, of its share of examples."""
    return hypothesis.settings(
        max_examples=_TOTAL * _SHARES[kind] // sum(_SHARES.values()) // 2,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
    )


@contextlib.contextmanager
def harmless(name: str):
    """Lets a UsageError pass, of one line; any other error, or much memory, fails."""
    counts = outcomes.setdefault(name, [0, 0])
    try:
        with warnings.catch_warnings():
            # What the parsers of others remark on is no exception.
            warnings.simplefilter("ignore")
            yield
        counts[0] += 1
    except UsageError as error:
        counts[1] += 1
        assert "\n" not in str(error) and len(str(error)) < 2000, str(error)


@pytest.fixture(autouse=True, scope="module")
def little_memory():
    """Bounds what this process may take, and tells at last what came of the examples.

    An allocation above the bound fails with a MemoryError.
    """
    # Whatever is compiled or imported at the first use is no mutation's doing.
    weight_files.read(_good_weights())
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    old = resource.getrlimit(resource.RLIMIT_AS)
    bound = pages * resource.getpagesize() + _LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (bound, old[1]))
    # pytest would keep every warning.
    logging.disable()
    yield
    logging.disable(logging.NOTSET)
    resource.setrlimit(resource.RLIMIT_AS, old)
    for name, (used, refused) in outcomes.items():
        print(f"\n{name}: {used + refused} examples, {used} used, {refused} refused")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nlargest size of the process: {peak:.2f} GiB")


def _good_weights() -> str:
    root = pathlib.Path(__file__).parents[1]
    return str(root / "pretrained" / "mnist_small_cnn.safetensors")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mutated")


def _read_npz(folder: pathlib.Path, content: bytes) -> None:
    """Reads a file in all ways in which an .npz file is read."""
    path = folder / "a.npz"
    path.write_bytes(content)
    with harmless("npz as data"):
        data.load(f"npz:{path}")
    with harmless("npz as attacked images"):
        AttackedImages(str(path)).read((4, 4, 1), 3)
    with harmless("npz as images to project"):
        list(UserImages(path).read(Wanted((4, 4, 1))))
    with harmless("npz as weights"):
        table = weight_files.read(path).table
        models.from_torch("linear", table, image_shape=(4, 4, 1), classes=3)


@examples("npz")
@hypothesis.given(content=mutations.mutated(mutations.whole_archives()))
def test_mutated_archives(content, folder):
    _read_npz(folder, content)


@examples("npz")
@hypothesis.given(
    content=mutations.archives(["images", "originals", "labels", "__metadata__"])
)
def test_archives_that_lie(content, folder):
    _read_npz(folder, content)


def _read_safetensors(folder: pathlib.Path, content: bytes) -> None:
    path = folder / "a.safetensors"
    path.write_bytes(content)
    with harmless("safetensors"):
        table = weight_files.read(path).table
        models.from_torch("linear", table, image_shape=(4, 4, 1), classes=3)


@examples("safetensors")
@hypothesis.given(content=mutations.mutated(mutations.whole_safetensors()))
def test_mutated_safetensors(content, folder):
    _read_safetensors(folder, content)


@examples("safetensors")
@hypothesis.given(content=mutations.safetensors_files())
def test_safetensors_that_lie(content, folder):
    _read_safetensors(folder, content)


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """Returns the path of a picture in the folder of a class."""
    path = tmp_path_factory.mktemp("pictures") / "class" / "a.png"
    path.parent.mkdir()
    return path


@examples("pictures")
@hypothesis.given(content=mutations.pictures())
def test_mutated_pictures_as_data(content, picture):
    picture.write_bytes(content)
    with harmless("pictures as data"):
        images = data.load(f"folder:{picture.parents[1]}").train.images
        assert images.dtype == np.uint8 and images.shape[-1] in (1, 3)


@examples("pictures")
@hypothesis.given(content=mutations.pictures())
def test_mutated_pictures_to_project(content, picture):
    picture.write_bytes(content)
    with harmless("pictures to project"):
        (image,) = UserImages(picture.parent).read(Wanted((9, 7, 3)))
        assert (image.pixels is None) == bool(image.reason)


def whole_specs(registry: Registry[Any]) -> list[str]:
    """Returns texts of all components of a kind, with all their fields written."""
    found = []
    for name in registry.names:
        fields = [f for f in dataclasses.fields(registry[name]) if f.init]
        given = (
            f"{field.name}={0.5 if field.default is MISSING else field.default!r}"
            for field in fields
            if isinstance(
                field.default, bool | int | float | str | tuple | type(MISSING)
            )
        )
        found += [name, f"{name}({', '.join(given)})"]
    return found


_OF_REGISTRIES = [
    st.tuples(st.just(registry), mutations.specs(whole_specs(registry)))
    for registry in REGISTRIES
]


@examples("specs")
@hypothesis.given(drawn=st.one_of(_OF_REGISTRIES))
def test_mutated_specs(drawn):
    registry, text = drawn
    with harmless("specs"):
        registry.build(text)


@examples("specs")
@hypothesis.given(text=mutations.specs(["pgd(0.1, steps=3)", "adam(3)", "a(b=c(d=1))"]))
def test_texts_that_are_hardly_specs(text):
    with harmless("specs of attacks"):
        attacks.registry.build(text)
    with harmless("specs of solvers"):
        inversion.registry.build(text)
    labels.parse_spec(text)
