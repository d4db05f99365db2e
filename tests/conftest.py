"""Shared by all tests: shape checks, strict ranks, and the program as a function."""

import gc
import importlib.util
import itertools
import pathlib
import sys
from typing import NamedTuple

import jax
import jaxtyping
import pytest

from tests.support import CONFIG, write_digits

# Shapes in signatures are checked in tests only; jobs pay nothing for them.
jaxtyping.install_import_hook("robust_manifold", "beartype.beartype")

jax.config.update("jax_numpy_rank_promotion", "raise")

# Traces are many small objects that live long: to look through them all at Python's
# own pace takes some 8 % of the time of the tests.
gc.set_threshold(50_000, 20, 50)

MANY_MAPS = 32_000
"""Memory maps of a process at which compiled programs are dropped.

Each program takes several, and Linux allows 65,530: then the process aborts.
"""


def pytest_collection_modifyitems(items):
    """Skips the examples of adapters whose framework is not installed."""
    for item in items:
        name = item.name.removeprefix("robust_manifold.adapters.")
        package = name.partition(".")[0]
        if name == item.name or package not in ("equinox", "haiku", "torch"):
            continue
        if importlib.util.find_spec(package) is None:
            item.add_marker(pytest.mark.skip(f"{package} is not installed"))


@pytest.fixture(autouse=True)
def no_more_programs_than_fit():
    """Drops what was compiled before it is too much, also within a long module."""
    yield
    # It takes some milliseconds to look; no eight tests add as much as is left.
    if next(_TESTS) % 8:
        return
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MANY_MAPS:
        jax.clear_caches()
        gc.collect()


_TESTS = itertools.count(1)


class Ended(NamedTuple):
    """How a call of the program ended."""

    code: int
    out: str
    error: str


@pytest.fixture(autouse=True)
def no_cache_of_images(monkeypatch):
    """Keeps the tests out of the user's own cache."""
    monkeypatch.setenv("ROBUST_MANIFOLD_CACHE", "off")


@pytest.fixture
def program(capsys, monkeypatch):
    """Returns the program as a function of its arguments, run in this process."""
    from absl import flags

    from robust_manifold import command_line, experiment
    from robust_manifold.core.errors import UsageError

    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")

    def run(*arguments: object) -> Ended:
        values = flags.FlagValues()
        command_line.define_flags(values)
        argv = ["main.py", *map(str, arguments)]
        # Where ml_collections looks for overrides.
        monkeypatch.setattr("sys.argv", argv)
        # It reloads every config into one module, where old names would survive.
        sys.modules.pop("config_config", None)
        capsys.readouterr()
        try:
            command_line.parse(argv, values)
            code = experiment.run(*command_line.arguments(values), command=argv)
        except UsageError as error:
            with pytest.raises(SystemExit) as stopped:
                command_line.exit_with(error)
            code = stopped.value.code
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def project(tmp_path):
    """Returns a folder with a small data set, digits.npz, and a config, tiny.py."""
    write_digits(tmp_path / "digits.npz")
    (tmp_path / "tiny.py").write_text(CONFIG.format(data=tmp_path / "digits.npz"))
    return tmp_path


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Returns a project whose run is complete; copied by each test that spoils it.

    Its streams.txt has the name of each stream of random numbers, and its key.
    """
    from absl import flags

    from robust_manifold import command_line, experiment
    from robust_manifold.core import keys

    folder = tmp_path_factory.mktemp("finished")
    write_digits(folder / "digits.npz")
    (folder / "tiny.py").write_text(CONFIG.format(data=folder / "digits.npz"))
    values = flags.FlagValues()
    command_line.define_flags(values)
    argv = ["main.py", f"--config={folder / 'tiny.py'}", f"--workdir={folder / 'run'}"]
    command_line.parse(argv, values)
    streams, stream = [], keys.stream

    def told(key, name):
        found = stream(key, name)
        # Within a program there is no key yet, and a program is traced but once.
        if not isinstance(found, jax.core.Tracer):
            streams.append(f"{name}: {jax.random.key_data(found).tolist()}")
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "stream", told)
        # Of a session there is no fixture yet that keeps it out of the user's cache.
        patch.setenv("ROBUST_MANIFOLD_CACHE", "off")
        assert experiment.run(*command_line.arguments(values), command=argv) == 0
    (folder / "streams.txt").write_text("\n".join(sorted(set(streams))))
    return folder
