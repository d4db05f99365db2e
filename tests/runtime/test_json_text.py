import math
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from robust_manifold.runtime import json_text


def test_round_trip_of_plain_values():
    value = {"a": [1, 2.5, None, True, "x"], "b": {"c": []}}
    assert json_text.loads(json_text.dumps(value)) == value


def test_non_finite_floats_are_valid_json_and_come_back():
    text = json_text.dumps([math.inf, -math.inf, math.nan, np.float32("inf")])
    assert text == '["Infinity", "-Infinity", "NaN", "Infinity"]'
    back = json_text.loads(text)
    assert back[:2] == [math.inf, -math.inf] and math.isnan(back[2])


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float64(0.5), 0.5),
        (np.int32(3), 3),
        (np.bool_(True), True),
        (jnp.float32(0.5), 0.5),
        (np.arange(3), [0, 1, 2]),
        ((1, (2,)), [1, [2]]),
        (Path("a/b"), "a/b"),
    ],
)
def test_what_json_lacks_becomes_plain(value, plain):
    assert json_text.loads(json_text.dumps(value)) == plain


def test_other_types_are_refused():
    with pytest.raises(TypeError, match="JSON cannot hold .* of type object"):
        json_text.dumps({"a": object()})


def test_brackets_in_brackets_are_no_json():
    for text in ("[" * 100_000, '{"a":' * 100_000, "[" * 990 + "]" * 990):
        with pytest.raises(ValueError):
            json_text.loads(text)
