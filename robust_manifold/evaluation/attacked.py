"""The images that one adversary's attacks make of a defended classifier.

A row of a table is a set of images: those of one attack by one adversary on one target.
What is made of it depends on the row's random stream, and on nothing else of the table.
"""

import dataclasses
import hashlib
import re
from collections.abc import Hashable, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
from jaxtyping import Float

from robust_manifold import attacks, defenses
from robust_manifold.core.networks import GENERATOR
from robust_manifold.core.norms import Norm
from robust_manifold.evaluation.cascades import Judged

_LONGEST = 200
"""Characters of a name of ours; file systems allow 255, with the ending."""


@dataclasses.dataclass(frozen=True)
class Ball:
    """What an adversary is given that brings its own attacks: a budget."""

    epsilon: float
    norm: Norm = "linf"

    kind: ClassVar[str]

    @property
    def budget(self) -> float:
        """The radius, as `attacks.Attack.budget`."""
        return self.epsilon

    @property
    def text(self) -> str:
        """The search in the ball, as an attack is written."""
        norm = "" if self.norm == "linf" else f", norm={self.norm!r}"
        return f"{self.kind}(epsilon={self.epsilon!r}{norm})"


class OnManifold(Ball):
    """What the adversary `latent` is given."""

    kind = "on_manifold"


def row_stream(target: str, adversary: str, attack: str) -> str:
    """Returns what a row's random stream is named by; see `Registry.stream_name`.

    Args:
      target: the stream name of what was attacked, "none" for a bare classifier.
      adversary: that of the adversary.
      attack: that of the attack.
    """
    return "/".join(map(folder_name, (target, adversary, attack)))


def defence_stream(defence: defenses.Defense) -> str:
    """Returns what the random stream is named by that a defence's keys come from."""
    return f"defence {defenses.registry.stream_name(defence.inner)}"


def folder_name(text: str) -> str:
    """Returns a spec's text as the name of a folder.

    >>> folder_name("pgd(epsilon=0.1, norm='l2')")
    'pgd-epsilon=0.1-norm=l2'
    """
    unquoted = re.sub("['\"]", "", text)
    return shortened(re.sub(r"[^A-Za-z0-9.=_+]+", "-", unquoted).strip("-"))


def shortened(name: str) -> str:
    """Returns a name that a file may have; of a long one the end is a checksum."""
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name[: _LONGEST - len(digest) - 1]}-{digest}"


def sort_of(attack: Any) -> Hashable:
    """Returns an attack without its budget: equal ones are made in one go, rising.

    An image that falls at one budget is carried over to the larger ones.
    """
    if isinstance(attack, attacks.Attack) and attack.budget:
        return dataclasses.replace(attack, epsilon=1.0)  # type: ignore[call-arg]
    return attack


def on_view(
    attack: attacks.Attack,
    budgets: Sequence[float],
    adversary: Any,
    judged: Judged,
    images: Float[np.ndarray, "n height width channels"],
    labels: np.ndarray,
    **options: Any,
) -> list[attacks.Crafted]:
    """Returns what an attack makes of a defended classifier, at each budget.

    Args:
      attack: with the least budget.
      budgets: rising; one alone is the attack's own, or stands for none.
      adversary: a `GradientAdversary`, or `Decision`.
      judged: the target, with the keys of these images.
      images: pixels in [0, 1].
      labels: [n].
      **options: of `attacks.craft`.
    """
    defended = judged.apply.apply
    arguments = (judged.apply, judged.params, images, labels)
    view = adversary.view(judged.defence, judged.networks, judged.classify) or defended
    options |= {
        "view": attacks.Expectation(view, adversary.samples),
        "fixed_keys": _known(adversary, judged),
        "criterion": judged.criterion,
    }
    if len(budgets) == 1:
        return [attacks.craft(attack, *arguments, **options)]
    grid = attacks.craft_grid(attack, *arguments, budgets, **options)
    return [
        jax.tree.map(lambda leaf, place=place: leaf[place], grid)
        for place in range(len(budgets))
    ]


def on_manifold(
    norm: Norm,
    epsilon: float,
    adversary: defenses.Latent,
    judged: Judged,
    images: Float[np.ndarray, "n height width channels"],
    labels: np.ndarray,
    *,
    latents: Float[np.ndarray, "n latent"],
    **options: Any,
) -> attacks.Crafted:
    """Returns what is found in the generator's range.

    Args:
      norm: of the ball.
      epsilon: its radius.
      adversary: how long it searches.
      judged: the target, whose defence projects, with the keys of these images.
      images: pixels in [0, 1].
      labels: [n].
      latents: where the defence takes the clean images to.
      **options: of `attacks.find_on_manifold`.
    """
    known = {field.name for field in dataclasses.fields(attacks.LatentSearch)}
    own = {name: getattr(adversary, name) for name in known if hasattr(adversary, name)}
    spanner: Any = judged.networks[GENERATOR]
    return attacks.find_on_manifold(
        attacks.LatentSearch(**own),
        norm,  # type: ignore[arg-type]
        epsilon,
        spanner,
        judged.classify,
        judged.params,
        images,
        labels,
        apply=judged.apply,
        criterion=judged.criterion,
        latents=latents,
        fixed_keys=_known(adversary, judged),
        **options,
    )


def _known(adversary: Any, judged: Judged) -> jax.Array | None:
    """Returns the keys that the defence has when the images are judged.

    None for an adversary that never sees these, but fresh ones.
    """
    return None if getattr(adversary, "keys", "fixed") == "fresh" else judged.keys
