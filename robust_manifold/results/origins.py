"""Networks that a run took over from others: how these had trained them.

A config says how its networks are trained, and not whether those of `from_run` were
trained so.  The runs that they came from say it, as long as these are there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robust_manifold.config import check_stored
from robust_manifold.core.errors import UsageError
from robust_manifold.findings import Run
from robust_manifold.runtime import DamagedArtefact
from robust_manifold.runtime.run_folder import CONFIG, config_differences, read_config

NETWORKS = ("classifier", "generator", "encoder")
_APART = ("from_run", "start")
"""Keys of a block that its network's training is not told by, once it is taken over."""


def blocks_of(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the blocks of a config that say how networks are made, by name."""
    found = {name: config[name] for name in NETWORKS if name in config}
    return found | config.get("classifiers", {})


def read_origins(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Returns the blocks that networks taken over were trained by, by network.

    Runs that took them over in their turn are followed.  Networks whose run is not
    there any more are left out.
    """
    found = {
        name: _origin(name, str(block["from_run"]))
        for name, block in blocks_of(config).items()
        if block.get("from_run")
    }
    return {name: block for name, block in found.items() if block is not None}


def trained_config(run: Run) -> dict[str, Any]:
    """Returns a run's config, with the blocks that its networks were trained by."""
    own = {name: block for name, block in run.origins.items() if name in NETWORKS}
    named = run.config.get("classifiers", {})
    named = {name: run.origins.get(name, block) for name, block in named.items()}
    return {**run.config, **own, "classifiers": named}


def told_otherwise(block: Mapping[str, Any], origin: Mapping[str, Any]) -> list[str]:
    """Returns the keys by which a network was trained otherwise than its block says."""
    own, other = (
        {key: each[key] for key in block.keys() & origin.keys() if key not in _APART}
        for each in (block, origin)
    )
    return [phrase.partition(" ")[0] for phrase in config_differences(other, own)]


def _origin(name: str, folder: str) -> Mapping[str, Any] | None:
    """Returns the block of the run that trained a network; None where none is found."""
    passed = set()
    while folder not in passed:
        passed.add(folder)
        try:
            config = read_config(folder)
        except DamagedArtefact:
            raise
        except (OSError, UsageError):
            return None
        check_stored(config, Path(folder) / CONFIG)
        blocks = blocks_of(config)
        if name not in {*blocks, *NETWORKS}:
            # A run without a classifier of this name gives its own.
            name = "classifier"
        if name not in blocks:
            return None
        block, folder = blocks[name], str(blocks[name].get("from_run", ""))
        if not folder:
            return block
    return None
