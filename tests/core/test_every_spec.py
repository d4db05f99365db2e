"""What every registered component makes of numbers, wherever they come from."""

import dataclasses
import typing

import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold import attacks, defenses, inversion, models, training
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry

REGISTRIES = [
    value
    for module in (attacks, defenses, inversion, models, training)
    for value in vars(module).values()
    if isinstance(value, Registry)
]
SPECS = [registry[name] for registry in REGISTRIES for name in registry.names]


def made(cls):
    """Returns a spec with its defaults, and small numbers where it has none."""
    missing = dataclasses.MISSING
    given = {}
    for field in dataclasses.fields(cls):
        needed = field.init and field.default is missing
        if needed and field.default_factory is missing:
            hint = typing.get_type_hints(cls)[field.name]
            given[field.name] = {int: 2, float: 0.1}.get(hint, "stickers")
    return cls(**given)


def numbers_of(spec, kind):
    hints = typing.get_type_hints(type(spec))
    fields = [field.name for field in dataclasses.fields(spec) if field.init]
    return [name for name in fields if hints[name] is kind]


@pytest.mark.parametrize("cls", SPECS, ids=lambda cls: cls.__name__)
def test_counts_are_whole_numbers_of_any_library(cls):
    try:
        spec = made(cls)
    except UsageError:
        pytest.skip("it needs more than numbers")
    for name in numbers_of(spec, int):
        value = getattr(spec, name)
        for same in (np.int64(value), jnp.asarray(value)):
            again = dataclasses.replace(spec, **{name: same})
            assert again == spec and type(getattr(again, name)) is int
        for wrong in (True, value + 0.5, "many", None):
            with pytest.raises(UsageError, match=rf"\.{name} is"):
                dataclasses.replace(spec, **{name: wrong})
    for name in numbers_of(spec, float):
        value = getattr(spec, name)
        again = dataclasses.replace(spec, **{name: np.float64(value)})
        assert again == spec and type(getattr(again, name)) is float
        for wrong in (True, "much"):
            with pytest.raises(UsageError, match=rf"\.{name} is"):
                dataclasses.replace(spec, **{name: wrong})
