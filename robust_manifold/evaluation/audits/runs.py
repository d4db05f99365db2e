"""The attacks that an audit makes: each is made once, and its outcome shared."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import numpy as np

from robust_manifold import attacks
from robust_manifold.attacks import Attack, Expectation, SteppedAttack
from robust_manifold.attacks.random import Apply, bound, outputs_of
from robust_manifold.core import keys
from robust_manifold.core.criterion import MISCLASSIFIED, Criterion
from robust_manifold.core.networks import Networks
from robust_manifold.core.norms import Norm
from robust_manifold.core.types import Params, PRNGKey
from robust_manifold.defenses import DefenseParams, NoDefense
from robust_manifold.evaluation import cascades
from robust_manifold.evaluation.audits import binarisation, probe
from robust_manifold.evaluation.audits.own_attack import OwnAttack, Recorder
from robust_manifold.evaluation.audits.trail import Trail, follow
from robust_manifold.evaluation.results import predictions_of
from robust_manifold.evaluation.worst_case import Budget

_KEYS = 4
"""Fresh keys that a random classifier is asked with."""
_MORE_RESTARTS = 2
_STRONGER = "quick"
"""Effort of the cascade that goes over what the attack has left."""


class Network(NamedTuple):
    """Another classifier: the undefended one, or an independent judge.

    Attributes:
      apply: `apply(params, image) -> logits`, for one image.
      params: of it.
    """

    apply: Apply
    params: Params


class AttackOutcome(NamedTuple):
    """What an attack made of the images.

    Attributes:
      images: that it returns.
      broken: whether each meets the criterion: by default, is misclassified.
      forwards: evaluations of the classifier, a mean over the images.
      backwards: gradients; None where it is not known.
      outputs: for the returned images, such as logits.
    """

    images: np.ndarray
    broken: np.ndarray
    forwards: float
    backwards: float | None
    outputs: np.ndarray


class Runs:
    """All that an audit computes of one classifier under one attack, when asked."""

    def __init__(
        self,
        apply: Apply,
        params: Params,
        images: np.ndarray,
        labels: Any,
        *,
        key: PRNGKey,
        attack: Attack | OwnAttack,
        criterion: Criterion = MISCLASSIFIED,
        view: Apply | None,
        undefended: Network | None,
        queries: int,
    ):
        self.apply, self.params, self.view = apply, params, view
        self.images, self.labels, self.key = images, labels, key
        self.attack, self.undefended, self.queries = attack, undefended, queries
        self.criterion = criterion
        assert attack.budget is not None, "refused by the audit"
        self.epsilon = float(attack.budget)
        self.norm: Norm = attack.norm
        # In the instance: a cache of the class would keep every audit's images alive.
        self._outcomes: dict[float, AttackOutcome] = {}

    @property
    def random(self) -> bool:
        """Whether the classifier takes a key."""
        return isinstance(self.apply, Expectation)

    @property
    def all_budget(self) -> float:
        """The budget with which any image can become any other."""
        size = self.images[0].size
        return {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size)}[self.norm]

    @functools.cached_property
    def clean_logits(self) -> np.ndarray:
        """The logits of the clean images."""
        return self.logits(self.images)

    @property
    def outputs(self) -> int:
        """Entries of one output that the attack looks at."""
        return self.criterion.classes_among(self.clean_logits[0].size)

    @functools.cached_property
    def wrong(self) -> np.ndarray:
        """Whether the criterion is met for each clean image: it is misclassified."""
        return self.met(self.clean_logits)

    def met(self, outputs: np.ndarray) -> np.ndarray:
        """Returns for which outputs for the images the criterion is met."""
        if self.criterion == MISCLASSIFIED:
            # Where a logit is NaN, the classifier is wrong, though no attack's success.
            return predictions_of(outputs) != self.labels
        return probe.met(self.criterion, outputs, self.labels)

    def logits(self, images: np.ndarray, stream: str = "clean") -> np.ndarray:
        """Returns the logits of images."""
        key = keys.stream(self.key, stream)
        return outputs_of(self.apply, self.params, images, key=key)

    def predictions_by_key(self, images: np.ndarray) -> np.ndarray:
        """Returns the classes that a random classifier gives under some keys."""
        return np.stack(
            [predictions_of(self.logits(images, f"key {i}")) for i in range(_KEYS)]
        )

    @functools.cached_property
    def main(self) -> AttackOutcome:
        """The audited attack at its own budget."""
        return self.at(self.epsilon)

    def at(self, epsilon: float) -> AttackOutcome:
        """Returns the outcome of the audited attack at a budget."""
        if epsilon not in self._outcomes:
            self._outcomes[epsilon] = self._at(epsilon)
        return self._outcomes[epsilon]

    def _at(self, epsilon: float) -> AttackOutcome:
        if isinstance(self.attack, OwnAttack):
            return self._own(self.apply, self.params, epsilon)
        return self.made(dataclasses.replace(self.attack, epsilon=epsilon))  # type: ignore[type-var]

    def made(self, attack: Any, *, blind: bool = False) -> AttackOutcome:
        """Returns the outcome of an attack of this package.

        Args:
          attack: the spec.
          blind: whether it is made without the view.
        """
        view = None if blind else self.view
        return self._craft(attack, self.apply, self.params, view)

    @functools.cached_property
    def single_step(self) -> AttackOutcome:
        """One step along the gradient, as large as the budget."""
        attack = attacks.PGD(
            epsilon=self.epsilon,
            norm=self.norm,
            steps=1,
            step_size=self.epsilon or None,
            random_start=False,
        )
        return self.made(attack)

    @property
    def fewer_steps(self) -> Any:
        """The audited attack with a quarter of its steps, or None."""
        steps = self._field("steps")
        if steps is None or steps < 2:
            return None
        return dataclasses.replace(self.attack, steps=max(1, steps // 4))  # type: ignore[type-var]

    @property
    def more_restarts(self) -> Any:
        """The audited attack with more restarts, or None."""
        restarts = self._field("restarts")
        if restarts is None or not getattr(self.attack, "random_start", True):
            return None
        return dataclasses.replace(self.attack, restarts=restarts + _MORE_RESTARTS)  # type: ignore[type-var]

    @functools.cached_property
    def scores(self) -> AttackOutcome:
        """Random search on the scores alone."""
        attack = attacks.Square(
            epsilon=self.epsilon, norm=self.norm, queries=self.queries
        )
        return self.made(attack, blind=True)

    @functools.cached_property
    def noise(self) -> np.ndarray:
        """Which images noise alone breaks."""
        return probe.broken_by_noise(
            self.apply,
            self.params,
            self.images,
            self.labels,
            epsilon=self.epsilon,
            norm=self.norm,
            key=keys.stream(self.key, "noise"),
            criterion=self.criterion,
        )

    @functools.cached_property
    def transferred(self) -> np.ndarray:
        """Which images fall that were crafted on the undefended classifier."""
        assert self.undefended is not None
        if isinstance(self.attack, OwnAttack):
            made = self._own(*self.undefended, self.epsilon).images
            return self.met(self.logits(made, "transfer"))
        with attacks.without_warnings():
            crafted = attacks.transfer(
                self.attack,
                *self.undefended,
                self.apply,
                self.params,
                self.images,
                self.labels,
                key=keys.stream(self.key, "transfer"),
                criterion=self.criterion,
            )
        return np.asarray(crafted.success)

    def stronger(self, before: np.ndarray) -> tuple[np.ndarray, dict[str, int]]:
        """Returns which images a stronger pass leaves right, and who broke them.

        Args:
          before: which are right so far, and are attacked once more.
        """
        after, by = before.copy(), {}
        if before.any():
            params = DefenseParams({}, self.params)
            classify: Any = self.apply
            judged = cascades.Judged(NoDefense(), Networks(), classify, params)
            with attacks.without_warnings():
                (found,) = cascades.cascade(
                    judged,
                    self.images[before],
                    self.labels[before],
                    [Budget(self.norm, self.epsilon)],
                    key=keys.stream(self.key, "stronger"),
                    effort=_STRONGER,
                    pilot=(self.images, self.labels),
                ).budgets
            after[before] = ~found.broken
            by = {share.member: share.broken for share in found.shares}
        return after, by

    @property
    def planted(self) -> binarisation.BinarisationResult:
        """What the audited attack finds of what is planted."""
        assert isinstance(self.attack, Attack), "its caller skips functions"
        leads = None
        if self.criterion.classes:
            leads = binarisation.leads_of(self.clean_logits)
        with attacks.without_warnings():
            return binarisation.binarisation_test(
                self.attack,
                self.apply,
                self.params,
                self.images,
                key=keys.stream(self.key, "planted"),
                view=self.view,
                leads=leads,
            )

    def at_scale(self, factor: float) -> np.ndarray:
        """Returns which images fall when the logits are multiplied."""
        params = (self.params, np.asarray(factor, self.images.dtype))
        apply = probe.scaled(self.apply)
        if isinstance(self.attack, OwnAttack):
            return self._own(apply, params, self.epsilon).broken
        view = None if self.view is None else probe.scaled(self.view)
        return self._craft(self.attack, apply, params, view).broken

    @functools.cached_property
    def trail(self) -> Trail | None:
        """What the audited attack looked at; None if that cannot be seen."""
        if isinstance(self.attack, OwnAttack):
            recorder, outcome = self._recorded
            if not recorder.losses:
                return None
            losses = np.stack(recorder.losses, axis=1)
            return Trail(losses, recorder.met, outcome.broken)  # type: ignore[arg-type]
        if not isinstance(self.attack, SteppedAttack):
            return None
        found = follow(
            self.attack.fitting(self.criterion, self.outputs),
            self.apply,
            self.params,
            self.images,
            self.labels,
            key=keys.stream(self.key, "trail"),
            view=self.view,
            criterion=self.criterion,
        )
        return None if found is None else jax.tree.map(np.asarray, found)

    def _field(self, name: str) -> int | None:
        """Returns the number in a field of the attack; None if it has no such field."""
        spec: Any = self.attack
        fields = {f.name for f in dataclasses.fields(spec) if f.init}
        return getattr(self.attack, name) if name in fields else None

    def _craft(
        self, attack: Any, apply: Apply, params: Params, view: Apply | None
    ) -> AttackOutcome:
        with attacks.without_warnings():
            crafted = attacks.craft(
                attack,
                apply,
                params,
                self.images,
                self.labels,
                key=keys.stream(self.key, "attack"),
                criterion=self.criterion,
                view=view,
            )
        return AttackOutcome(
            images=np.asarray(crafted.images),
            broken=np.asarray(crafted.success),
            forwards=float(np.mean(crafted.queries.forwards)),
            backwards=float(np.mean(crafted.queries.backwards)),
            outputs=np.asarray(crafted.logits),
        )

    @functools.cached_property
    def _recorded(self) -> tuple[Recorder, AttackOutcome]:
        return self._ask(self.apply, self.params, self.epsilon)

    def _own(self, apply: Apply, params: Params, epsilon: float) -> AttackOutcome:
        """Returns the outcome of the user's own attack function."""
        if apply is self.apply and epsilon == self.epsilon:
            return self._recorded[1]
        return self._ask(apply, params, epsilon)[1]

    def _ask(
        self, apply: Apply, params: Params, epsilon: float
    ) -> tuple[Recorder, AttackOutcome]:
        assert isinstance(self.attack, OwnAttack)
        n, key = len(self.images), keys.stream(self.key, "own attack")
        each = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, np.arange(n))

        def classify(images: Any) -> Any:
            if len(images) != n:
                return jax.vmap(bound(apply, params, key))(images)
            return jax.vmap(lambda k, x: bound(apply, params, k)(x))(each, images)

        recorder = Recorder(
            classify, self.images, self.labels, self.attack, epsilon, self.criterion
        )
        made = np.asarray(
            self.attack.run(recorder, self.images, self.labels, epsilon),
            self.images.dtype,
        )
        jax.effects_barrier()
        outputs = np.asarray(classify(made))
        outcome = AttackOutcome(
            images=made,
            broken=self.met(outputs),
            forwards=recorder.asked / n,
            backwards=None,
            outputs=outputs,
        )
        return recorder, outcome
