"""The model card of published weights, from the records of the run that trained them.

Nothing in a card is typed by hand.  Folders of the machine that the run was on are no
part of it: other runs appear as runs/NAME.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from robust_manifold.runtime.arguments import read_flags


class Figure(NamedTuple):
    """One measured figure of a network."""

    what: str
    value: str
    """With its unit and, where the records have one, its 95 % interval."""
    n: int
    """Images that it was measured on."""
    images: str
    """Which images they were."""


class Card(NamedTuple):
    """What a card says."""

    name: str
    role: str
    place: str
    """The network's block in a config."""
    file: str
    bytes: int
    sha256: str
    model: str
    parameters: int
    input_shape: Sequence[int]
    output_shape: Sequence[int]
    data: Mapping[str, Any]
    """The block `data` of the run's config."""
    splits: Mapping[str, Mapping[str, Any]]
    """Size and checksum of each split, as in data.json."""
    block: Mapping[str, Any]
    """The network's block of the run's config."""
    seed: int
    steps: str
    figures: Sequence[Figure]
    commands: Sequence[Sequence[str]]
    """Those that ran the training, in order."""
    seconds: float | None
    made_with: str
    """See the function of this name."""
    remarks: Sequence[str] = ()


def text(card: Card) -> str:
    """Returns the card as markdown."""
    key = f"{card.place}.weights"
    parts = [
        f"# {card.name}",
        f"The {card.role} `{card.model}`: {card.parameters:,} parameters, input "
        f"{_shape(card.input_shape)}, output {_shape(card.output_shape)}.",
        f"`{card.file}`, {card.bytes:,} bytes, SHA-256 `{card.sha256}`. Read by "
        f"`--config.{key}={card.file}`, or by `--config.pretrained=True` where "
        "the experiment names it.",
        "## Data",
        _data(card),
        "## Training",
        _table(("key", "value"), _settings(card)),
        f"```\n{_commands(card)}\n```",
        *card.remarks,
        "## Figures",
        _figures(card.figures),
        "## Made with",
        _made_with(card),
    ]
    return "\n\n".join(parts) + "\n"


def command_text(command: Sequence[str]) -> str:
    """Returns the command of a run as one would type it to have the networks anew.

    Folders are left out, and so are --stages: the run may have been opened again.

    >>> command_text(["/x/robust_manifold/main.py", "--config=/x/experiments/a.py:b",
    ...               "--workdir=/y/c", "--config.encoder.from_run=/y/d"])
    'python -m robust_manifold.main --config=experiments/a.py:b --config.encoder.from_run=runs/d'
    """  # noqa: E501
    shown = ["python", "-m", "robust_manifold.main"]
    for flag in read_flags(command[1:]):
        if flag.name not in ("workdir", "stages"):
            folder = "experiments" if flag.name == "config" else "runs"
            shown.append(without_folders(str(flag), folder))
    return " ".join(map(_quoted, shown))


def _quoted(argument: str) -> str:
    """Returns an argument as one types it in a shell."""
    if not re.search(r"[\"$`\\!]", argument) and "'" in argument:
        return f'"{argument}"'
    return shlex.quote(argument)


def without_folders(text: str, folder: str = "runs") -> str:
    """Returns a text with paths of this machine shortened to what they are called.

    >>> without_folders("npz:/home/me/digits.npz")
    'npz:runs/digits.npz'
    """
    return re.sub(r"(?<![\w.])/(?:[\w.@+-]+/)*(?=[\w.@+-])", f"{folder}/", text)


def _data(card: Card) -> str:
    changed = {k: v for k, v in card.data.items() if v and k not in _FOLDERS}
    changed.pop("source")
    settings = ", ".join(f"{key}={value!r}" for key, value in changed.items())
    train = card.splits["train"]
    parts = ", ".join(
        f"{split['examples']:,} {name}" for name, split in card.splits.items()
    )
    source = f"`{without_folders(card.data['source'])}`"
    settings = f" with {settings}" if settings else ""
    return (
        f"{source}{settings}: {parts} images. SHA-256 of the training images: "
        f"`{train['sha256']}`. Validation and test images were not trained on."
    )


_FOLDERS = ("data_dir", "cache_dir")


def _settings(card: Card) -> list[tuple[str, str]]:
    keys = ("training", "duration", "batch_size", "start")
    rows = [(key, f"`{card.block[key]}`") for key in keys if card.block.get(key)]
    return [*rows, ("steps", card.steps), ("seed", str(card.seed))]


def _figures(figures: Sequence[Figure]) -> str:
    if not figures:
        return "The run's records hold none."
    rows = [(f.what, f.value, f"{f.n:,}", f.images) for f in figures]
    table = _table(("figure", "value [95 % interval]", "n", "images"), rows)
    return f"{table}\n\nThe run's records hold no interval where none is given."


def made_with(part: Mapping[str, Any]) -> str:
    """Returns the versions and the devices of a part of a training in words."""
    versions = ", ".join(f"{name} {text}" for name, text in part["versions"].items())
    device = part["devices"]
    device = f"{device.get('devices', '?')} x {device.get('kind', '?')}"
    return f"{versions}; device: {device}"


def _commands(card: Card) -> str:
    return "\n".join(dict.fromkeys(map(command_text, card.commands)))


def _made_with(card: Card) -> str:
    seconds = "" if card.seconds is None else f" Training took {card.seconds:,.0f} s."
    return f"{card.made_with}.{seconds}"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "1"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
