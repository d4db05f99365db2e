"""Values and texts without what is true of one machine alone: where its files lie."""

import re
from collections.abc import Mapping
from typing import Any

_LOCAL = {"data_dir", "cache_dir"}
"""Keys of `config.data` that say where files lie on one machine, and nothing else."""

# A path begins a text, or follows what sets it off: "npz:/x", "file='/x'", ",/x,".
_ABSOLUTE = re.compile(
    r"""(^|[=:'"(,])~?/(?:[^/'",\n]*/)*([^/'",\n]+)/?(?=['",\n]|$)""", re.MULTILINE
)


def portable_text(text: str) -> str:
    """Returns a text, or the lines of a file, with absolute paths cut to their ends.

    >>> portable_text("--config.classifier.from_run=/home/me/runs/vae")
    '--config.classifier.from_run=vae'
    >>> portable_text("attacked_images(file='/tmp/x.npz', images='adversarial')")
    "attacked_images(file='x.npz', images='adversarial')"
    """
    return _ABSOLUTE.sub(r"\1\2", text)


def portable(value: Any) -> Any:
    """Returns a tree of plain values with absolute paths cut to their ends."""
    if isinstance(value, Mapping):
        return {name: portable(item) for name, item in value.items()}
    if isinstance(value, list):
        return [portable(item) for item in value]
    return portable_text(value) if isinstance(value, str) else value


def portable_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config without what is true of one machine alone."""
    data = config["data"] | dict.fromkeys(_LOCAL & config["data"].keys(), "")
    return portable({**config, "data": data})
