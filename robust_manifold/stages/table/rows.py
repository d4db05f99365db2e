"""The table of a run: its columns, its rows, and where each cell is stored.

A column is a defence around a classifier (`config.Column`).  In results.csv and in all
that is made of it, two fields name it:

* `defence`: the text of the defence alone, such as "invert_and_classify(restarts=4)";
* `classifier`: the text of the model ("small_cnn") for the run's own classifier, the
  name from `config.classifiers` ("enhanced") for another.  No classifier may be called
  what a model is called, so that the two cannot be mistaken for each other.

`Column.text` is the text of a config: the defence, and " on NAME" where the classifier
is a named one.

A row is a set of images: the clean ones, or those of one attack by one adversary.
`Row.adversary` is the adversary as a config writes it, "unrolled(samples=4)"; one whose
keys are fresh says so there.  The oblivious adversary, who does not look at the
defence, makes one set of images a classifier, which meets all columns of it; the others
make one set a column.  The latent adversary makes one set a budget, whatever the attack
(`OnManifold`), and meets columns that project alone.  So does a cascade
(`config.evaluation.worst_case`), against every column (`InBall`); its text as an
adversary is that of its spec without the balls.

The worst case over all rows is no row of images: its lines, with the adversary "worst
case", follow the others in results.csv.
"""

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple, TypeAlias

from robust_manifold import attacks, defenses
from robust_manifold.config import Column, EvaluationBlock
from robust_manifold.core.errors import UsageError
from robust_manifold.core.spec import Registry
from robust_manifold.evaluation import cascades
from robust_manifold.evaluation.attacked import (
    Ball,
    OnManifold,
    folder_name,
    row_stream,
)

UNDEFENDED = defenses.NoDefense()
OBLIVIOUS, SUBSTITUTE, LATENT = "oblivious", "substitute", "latent"
CASCADE = "cascade"


class InBall(Ball):
    """What a cascade is given."""

    kind = "in_ball"


Search: TypeAlias = attacks.Attack | Ball


class Row(NamedTuple):
    """One set of images: the clean ones, or those of an attack by an adversary."""

    attack: Search | None
    """None for the clean images."""
    adversary: str
    """What the attack may differentiate, as a config writes it; "none" for the clean
    images."""
    target: Column
    """The column that the attack was made against; for the oblivious adversary, whose
    images meet all columns of a classifier, that without a defence."""

    @property
    def name(self) -> str:
        """The attack as a config writes it, or "clean"."""
        if self.attack is None:
            return "clean"
        if isinstance(self.attack, Ball):
            return self.attack.text
        return attacks.registry.to_string(self.attack)

    @property
    def spec(self) -> Any:
        """The adversary, or the cascade; there is none of the clean images."""
        return _registry_of(self.adversary).build(self.adversary)

    @property
    def budget(self) -> float | None:
        """The attack's; None where it has none, and for the clean images."""
        return None if self.attack is None else self.attack.budget

    @property
    def folder(self) -> str:
        """The row's folder: clean, or target/adversary/attack."""
        if self.attack is None:
            return "clean"
        return "/".join(map(folder_name, (self.target.text, self.adversary, self.name)))

    @property
    def stream_name(self) -> str:
        """What the attack's random stream is named by; see `Registry.stream_name`."""
        name = self.name
        if isinstance(self.attack, attacks.Attack):
            name = attacks.registry.stream_name(self.attack)
        adversary = _registry_of(self.adversary).stream_name(self.spec)
        return row_stream(self.target.stream_name, adversary, name)


def rows(evaluation: EvaluationBlock) -> list[Row]:
    """Returns the sets of images in the table's order, clean first."""
    return [
        Row(None, "none", Column(UNDEFENDED)),
        *(
            Row(attack, adversary, target)
            for adversary in evaluation.adversaries
            for target in _targets(adversary, evaluation)
            for attack in _attacks(adversary, evaluation)
        ),
        *_cascaded(evaluation),
    ]


def _cascaded(evaluation: EvaluationBlock) -> Iterator[Row]:
    """Yields the rows of the cascade, those of a column and its keys together."""
    if evaluation.worst_case is None:
        return
    for place, spec in enumerate(evaluation.worst_case.each):
        for column in evaluation.columns:
            # Where nothing is drawn, fresh keys would make the same images again.
            if place and column.bare:
                continue
            for norm, epsilon in evaluation.budgets:
                ball = InBall(epsilon, norm)
                yield Row(ball, cascades.registry.to_string(spec), column)


def rows_of(column: Column, evaluation: EvaluationBlock) -> list[Row]:
    """Returns the rows that a column meets: all that were not made for another."""
    return [
        row
        for row in rows(evaluation)
        if row.attack is None or _meets(row.adversary, row.target, column)
    ]


def adversaries_of(evaluation: EvaluationBlock) -> list[str]:
    """Returns the texts of those who attack, in the table's order."""
    return list(dict.fromkeys(row.adversary for row in rows(evaluation) if row.attack))


def kind_of(adversary: str) -> str:
    """Returns the registered name of an adversary as a config writes it."""
    return adversary.partition("(")[0]


def _registry_of(adversary: str) -> Registry[Any]:
    return cascades.registry if kind_of(adversary) == CASCADE else defenses.adversaries


def check_rows(evaluation: EvaluationBlock) -> None:
    """Refuses adversaries and attacks that would be left out without a word.

    Raises:
      UsageError: if an adversary can make none of the attacks, or meets none of the
        columns or one that it cannot meet, no adversary can make an attack, or two
        entries of a list would be stored in one place.
    """
    specs = {text: defenses.adversaries.build(text) for text in evaluation.adversaries}
    names = [attacks.registry.to_string(attack) for attack in evaluation.attacks]
    for text, spec in specs.items():
        if evaluation.attacks and not _attacks(text, evaluation):
            budget = (
                ", and has a budget in linf or l2" if kind_of(text) == LATENT else ""
            )
            raise UsageError(
                f"config.evaluation.adversaries: {text!r} can make none of the attacks "
                f"{', '.join(names)}; allowed: with an attack that sees "
                f"{' or '.join(spec.threat_models)}{budget}."
            )
        if evaluation.attacks:
            _check_targets(text, spec, evaluation)
    if evaluation.worst_case is not None:
        if evaluation.attacks and not specs and evaluation.worst_case.budgets:
            raise UsageError(
                f"config.evaluation.attacks has {names[0]!r}, which no adversary "
                "makes; allowed: () without adversaries, beside a cascade with balls "
                "of its own."
            )
    for attack, name in zip(evaluation.attacks, names, strict=True):
        # Of a cascade alone they may give the balls.
        if specs and not any(
            spec.suits(attack.threat_model) for spec in specs.values()
        ):
            raise UsageError(
                f"config.evaluation.attacks: {name!r} sees {attack.threat_model}, and "
                f"none of the adversaries {', '.join(specs)} can make it; allowed: "
                "with one that can, such as 'oblivious'."
            )
    for key, texts in {
        "defences": [column.text for column in evaluation.columns],
        "adversaries": list(specs),
        "attacks": names,
    }.items():
        places: dict[str, str] = {}
        for text in texts:
            other = places.setdefault(folder_name(text).lower(), text)
            if other != text:
                raise UsageError(
                    f"config.evaluation.{key}: {other!r} and {text!r} would be stored "
                    f"in one folder, {folder_name(text)!r}; allowed: one of them."
                )


def check_networks(
    evaluation: EvaluationBlock, own: Collection[str], further: Collection[str] = ()
) -> None:
    """Refuses networks that are needed and not there, or there and not needed.

    Args:
      evaluation: of the config.
      own: roles of those networks of the run that a defence may use.
      further: roles of `config.networks`.

    Raises:
      UsageError: for the first of them.
    """
    columns = evaluation.columns
    needed = {("defences", column.text): column.defence.needs for column in columns}
    if evaluation.attacks:
        for text in evaluation.adversaries:
            spec = defenses.adversaries.build(text)
            for target in _targets(text, evaluation):
                needed["adversaries", text] = spec.needs(target.defence)
    for (key, text), roles in needed.items():
        for role in roles:
            if role not in (*own, *further):
                raise UsageError(
                    f"config.evaluation.{key}: {text!r} needs the network {role!r}; "
                    "allowed: generator, encoder where config.stages has fit_encoder, "
                    "and the roles of config.networks."
                )
    for role in further:
        if not any(role in roles for roles in needed.values()):
            raise UsageError(
                f"config.networks has the role {role!r}, which no defence of "
                "config.evaluation.defences needs; allowed: roles in the `needs` of "
                "one, or of an adversary's stand-in."
            )


def _check_targets(
    text: str, spec: defenses.Adversary, evaluation: EvaluationBlock
) -> None:
    """Refuses an adversary that meets no column, or one that it cannot meet."""
    place = f"config.evaluation.adversaries: {text!r}"
    targets = _targets(text, evaluation)
    if not targets:
        columns = ", ".join(column.text for column in evaluation.columns)
        wanted = "one that projects" if kind_of(text) == LATENT else "one"
        raise UsageError(
            f"{place} has no defence to attack among the columns {columns}; allowed: "
            f"with {wanted}, such as 'invert_and_classify'."
        )
    for target in targets:
        try:
            spec.check_meets(target.defence)
        except UsageError as error:
            raise UsageError(f"{place} cannot meet {target.text!r}: {error}") from None


def _meets(adversary: str, target: Column, column: Column) -> bool:
    if kind_of(adversary) == OBLIVIOUS:
        return target.classifier == column.classifier
    return target == column


def _targets(adversary: str, evaluation: EvaluationBlock) -> list[Column]:
    """Returns what an adversary makes images for, one set each."""
    kind, columns = kind_of(adversary), evaluation.columns
    if kind == OBLIVIOUS:
        return [Column(UNDEFENDED, name) for name in evaluation.classifiers]
    if kind == LATENT:
        return [column for column in columns if column.projects]
    # Without a defence a view of it is the bare classifier, and so the images would
    # be those of the oblivious adversary over again.
    if kind != SUBSTITUTE and OBLIVIOUS in evaluation.adversaries:
        return [column for column in columns if not column.bare]
    return list(columns)


def _attacks(adversary: str, evaluation: EvaluationBlock) -> list[Search]:
    """Returns the attacks that an adversary can make; see `Adversary.suits`."""
    spec = defenses.adversaries.build(adversary)
    fitting = [a for a in evaluation.attacks if spec.suits(a.threat_model)]
    if kind_of(adversary) != LATENT:
        return list(fitting)
    # How an attack searches for pixels is nothing to a search for latents.
    budgets: list[Search] = [
        OnManifold(attack.budget, attack.norm)
        for attack in fitting
        if attack.norm in ("linf", "l2") and attack.budget is not None
    ]
    return list(dict.fromkeys(budgets))


def adversarial_folder(row: Row) -> str:
    """Returns where the row's adversarial images lie."""
    return f"adversarial/{row.folder}"


def outcome_folder(column: Column, row: Row) -> str:
    """Returns where the outcomes of the row in a column lie."""
    return f"outcomes/{folder_name(column.text)}/{row.folder}"


def validation_folder(defence: defenses.Defense) -> str:
    """Returns where the projections of clean validation images lie.

    They are of a defence: which classifier comes after it, and what it rejects, makes
    no difference.
    """
    return f"validation/{folder_name(defenses.registry.to_string(defence.inner))}"
