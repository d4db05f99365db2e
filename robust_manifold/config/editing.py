"""A config as experiments write it, and as run folders store it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import ml_collections

from robust_manifold.config.column import CLASSIFIER
from robust_manifold.config.experiment import (
    NAMED,
    STAGES,
    Experiment,
    check_name,
)
from robust_manifold.config.networks import ORIGINS, DefenceNetwork
from robust_manifold.core.errors import UsageError, unknown_name

T = TypeVar("T")


def default_config() -> ml_collections.ConfigDict:
    """Returns a config with every key at its default.

    Components are texts: a name, or a call with plain values, such as
    "pgd(epsilon=0.3, steps=40)"; durations are "N steps" or "N epochs".
    """
    return ml_collections.ConfigDict(Experiment.defaults()).lock()


def add_classifier(config: Any, name: str, **values: Any) -> None:
    """Adds a classifier to `config.classifiers`, where columns find it by its name.

    Args:
      config: of `default_config`.
      name: of the new classifier; a column of it is "DEFENCE on NAME".
      **values: of its keys: those of `classifier`, and `start`.  What is not given is
        as `config.classifier` is now, but for its origin: `from_run`, `weights`,
        `published` and `start` are empty.

    Raises:
      UsageError: for a name that is taken or is none, or an unknown key.
    """
    block = config.classifier.to_dict() | dict.fromkeys((*ORIGINS, "start"), "")
    _add(config, "classifiers", name, block, values)


def add_network(config: Any, name: str, **values: Any) -> None:
    """Adds a network to `config.networks`, where defences find it by its role.

    One with a training has the stage `fit_networks` added to `config.stages`, too.

    Args:
      config: of `default_config`.
      name: the role of the new network, such as "denoiser".
      **values: of its keys: `model`, and `weights` or `from_run` and `role`, or else
        `training`, `duration` and `batch_size`.  A tuple as `weights` is a stack of
        equal models.

    Raises:
      UsageError: for a role that is taken or is none, or an unknown key.
    """
    if isinstance(files := values.get("weights"), tuple):
        values["weights"] = "".join(f"{file}," for file in files)
    _add(config, "networks", name, DefenceNetwork.defaults(), values)
    if values.get("training"):
        wanted = {*config.stages, "fit_networks"}
        config.stages = tuple(stage for stage in STAGES if stage in wanted)


def _add(
    config: Any,
    block: str,
    name: str,
    entry: Mapping[str, Any],
    values: Mapping[str, Any],
) -> None:
    """Adds an entry to a block, with some of its values changed."""
    if name in config[block]:
        raise UsageError(f"{block} has {name!r} twice; allowed: each name once.")
    check_name(block, name)
    for key in values:
        if key not in entry:
            raise unknown_name(f"key of {block}.{name}:", key, entry)
    with config.unlocked():
        config[block][name] = ml_collections.ConfigDict({**entry, **values})


class _Operation(NamedTuple):
    """What a FieldReference applies to its value, and further arguments of it."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]


def where_pretrained(config: Any, value: T, *, otherwise: T) -> T:
    """Returns what a key is set to, for a smaller budget where nothing is trained.

    The key then follows `config.pretrained`, which the command line may change after
    the config file has been read, until it is set itself.

    >>> config = default_config()
    >>> config.evaluation.examples = where_pretrained(config, 100, otherwise=1000)
    >>> config.evaluation.examples
    1000
    >>> config.pretrained = True
    >>> config.evaluation.examples
    100

    Args:
      config: of `default_config`.
      value: of the key if `config.pretrained` is True.
      otherwise: its value if not.
    """
    chosen = ml_collections.FieldReference(
        otherwise,
        op=_Operation(
            lambda _, pretrained: value if pretrained else otherwise,
            (config.get_ref("pretrained"),),
        ),
    )
    # Whoever reads the key gets one of the two values.
    return cast(T, chosen)


def plain_values(config: Any) -> dict[str, Any]:
    """Returns a config as plain values, to be stored: without names of no effect.

    Published weights that are not taken may be named, and renamed, at any time.
    """
    values = config.to_dict()
    if not values["pretrained"]:
        own = (values[name] for name in (CLASSIFIER, "generator", "encoder"))
        named = (*values["classifiers"].values(), *values["networks"].values())
        for block in (*own, *named):
            block["published"] = ""
    return values


def defaults_beside(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the defaults of all keys of a config, those of its own names too."""
    return Experiment.defaults() | {
        name: dict.fromkeys(config[name], block.defaults())
        for name, block in NAMED.items()
    }
