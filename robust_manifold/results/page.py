"""What the page of results shows beside the records: published figures, as data."""

import importlib.resources
import tomllib
from collections.abc import Sequence
from typing import Any, NamedTuple


class Published(NamedTuple):
    """One published accuracy, and the rows of ours that it can be set beside.

    Attributes:
      source: the name of its source.
      data: what the source of our images must name.
      of: what was attacked, in the words of a table.
      attack: name of the attack; "clean"; "any_attack" for the worst of several.
      accuracy: in percent.
      norm: of the attack; empty for clean images.
      epsilon: of the attack; None where it has none.
      defence: name of our defence to set it beside; None if nothing of ours is like it.
      training: of our classifier; empty for any.
      adversaries: names of our adversaries, which clean images do not have.
      note: what else the source says of the attack.
    """

    source: str
    data: str
    of: str
    attack: str
    accuracy: float | int
    norm: str = ""
    epsilon: float | None = None
    defence: str | None = None
    training: str = ""
    adversaries: Sequence[str] = ("oblivious",)
    note: str = ""


class Page(NamedTuple):
    """What is known beside the records.

    Attributes:
      order: names of experiments in the order of the page; all others follow by name.
      sources: what each source of published figures is, by its name.
      published: the figures.
      front: what each column of the front page's table is, by the name of its run.
    """

    order: Sequence[str] = ()
    sources: dict[str, str] = {}
    published: Sequence[Published] = ()
    front: dict[str, str] = {}


def read_page() -> Page:
    """Returns what page.toml, beside this file, says."""
    file = importlib.resources.files("robust_manifold.results") / "page.toml"
    told: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
    return Page(
        told["order"],
        {source["name"]: source["words"] for source in told["sources"]},
        [
            Published(source=source["name"], data=source["data"], **figure)
            for source in told["sources"]
            for figure in source["figures"]
        ],
        told["front"],
    )
