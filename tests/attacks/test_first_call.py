"""What a first call costs: how often Python and XLA see the network."""

import re
import subprocess
import sys

import jax
import numpy as np
import pytest

from robust_manifold import attacks

KEY = jax.random.key(0)
IMAGES = np.linspace(0, 1, 7 * 4 * 4, dtype=np.float32).reshape(7, 4, 4, 1)
LABELS = np.arange(7) % 3
PARAMS = np.linspace(-1, 1, 16 * 3, dtype=np.float32).reshape(16, 3)
PGD = attacks.PGD(epsilon=0.1, steps=3)


@pytest.fixture
def compiled(caplog):
    """Returns the names of the programs that XLA has compiled since the last look."""

    def look() -> list[str]:
        told = re.findall(r"Finished XLA compilation of jit\((.*?)\)", caplog.text)
        caplog.clear()
        return told

    # `jax.log_compiles` would say nothing of other threads.
    jax.config.update("jax_log_compiles", True)
    yield look
    jax.config.update("jax_log_compiles", False)


def linear(params, image):
    return image.reshape(-1) @ params


def crafted(n, attack=PGD, apply=linear, **options):
    return attacks.craft(
        attack, apply, PARAMS, IMAGES[:n], LABELS[:n], key=KEY, **options
    )


def test_a_first_call_compiles_a_look_and_the_three_parts_of_a_loop(compiled):
    # The very first call of a process also asks XLA which options it knows.
    crafted(3)
    jax.clear_caches()
    compiled()
    crafted(3)
    programs = compiled()
    assert sorted(programs) == ["_advance", "_begin", "_finish", "_mapped"]


def test_python_runs_a_network_twice():
    """Once for the shape of its logits, once for all that is made of it."""
    runs = []

    def counted(params, image):
        runs.append(1)
        return linear(params, image)

    crafted(3, apply=counted)
    assert len(runs) <= 2


ATTACKS = [
    PGD,
    attacks.DeepFool(steps=2),
    attacks.Square(epsilon=0.1, queries=4),
    attacks.AutoAttack(epsilon=0.1, steps=2, queries=4, targets=1),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: type(attack).__name__)
def test_another_number_of_images_compiles_nothing(attack, compiled):
    crafted(3, attack)
    compiled()
    for n in (1, 5, 7):
        crafted(n, attack)
        assert compiled() == []


def test_another_number_of_images_compiles_nothing_for_a_curve(compiled):
    def curve(n):
        attacks.craft_grid(
            PGD, linear, PARAMS, IMAGES[:n], LABELS[:n], [0.05, 0.1], key=KEY
        )

    curve(3)
    compiled()
    curve(5)
    assert compiled() == []


def test_an_import_is_small_and_sets_nothing():
    code = """
import sys
import jax
before = dict(jax.config.values)
import robust_manifold.attacks
changed = {k for k, v in jax.config.values.items() if before.get(k, v) != v}
assert not changed, changed
heavy = {"flax", "orbax", "pandas", "matplotlib", "tensorflow_datasets", "scipy.stats"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
