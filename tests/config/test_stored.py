"""What a stored config may hold, for others than its run to read it."""

import functools
import json
import operator
import pathlib
import re

import pytest

from robust_manifold.config import add_classifier, check_stored, default_config
from robust_manifold.core.errors import UsageError

FILE = pathlib.Path("run/config.json")
ODD = (True, None, 3, 10**400, 0.5, "text", [], [{}], {}, {"x": 1})
NO_BLOCKS = ODD[:-2]
FIT = {
    "title": ["text"],
    "seed": [3, 10**400],
    "stages": [[]],
    "pretrained": NO_BLOCKS,
    "data": [],
    "data.source": ["text"],
    "data.crop": NO_BLOCKS,
    "classifier": [],
    "classifier.training": ["text"],
    "classifiers": [{}],
    "classifiers.robust": [],
    "classifiers.robust.training": ["text"],
    "generator": [{}, {"x": 1}],
    "report": [{}, {"x": 1}],
    "evaluation": [],
    "evaluation.confidence": [0.5],
    "evaluation.attacks": NO_BLOCKS,
}
"""Values that can be read, by key; a key that nobody reads may hold any but a block."""


def stored(key=None, value=None):
    config = default_config()
    add_classifier(config, "robust", training="trades(0.1)")
    config = json.loads(json.dumps(config.to_dict()))
    if key:
        *blocks, name = key.split(".")
        functools.reduce(operator.getitem, blocks, config)[name] = value
    return config


@pytest.mark.parametrize("key", FIT)
def test_blocks_are_blocks_and_what_is_read_is_fit(key):
    for value in ODD:
        config = stored(key, value)
        # True is 1, and no whole number.
        if any(type(value) is type(fit) and value == fit for fit in FIT[key]):
            check_stored(config, FILE)
            continue
        with pytest.raises(UsageError) as error:
            check_stored(config, FILE)
        place = rf"{re.escape(key)}(\.\w+)?"
        sentence = rf"{FILE} (lacks '{place}'|is damaged: {place} is .*)\."
        assert re.fullmatch(sentence, str(error.value)), error.value


def test_keys_may_be_missing_or_unknown_unless_they_are_needed():
    config = stored("other", {"x": 1})
    del config["seed"], config["encoder"], config["data"]["crop"]
    check_stored(config, FILE, ["data"])
    with pytest.raises(UsageError, match="config.json lacks 'seed'"):
        check_stored(config, FILE, ["data", "seed"])
