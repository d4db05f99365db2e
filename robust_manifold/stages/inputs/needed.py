"""Which networks the stages of an experiment train or use."""

from collections.abc import Collection, Iterator

from robust_manifold import defenses
from robust_manifold.config import CLASSIFIER, Experiment
from robust_manifold.core.networks import ENCODER, GENERATOR
from robust_manifold.stages import roles


def networks(experiment: Experiment, stages: Collection[str]) -> tuple[str, ...]:
    """Returns the roles of those networks that some stages train or use.

    They are "classifier", "generator", where one of the experiment's stages is
    fit_encoder "encoder", "classifier-NAME" of the config's `classifiers`, and
    "network-NAME" of those of its `networks` that have a training.
    """
    inverts = {"measure", "diagnose"} | generating_stages(experiment)
    needed = {
        "classifier": {"fit_classifier", "measure"},
        "generator": {"fit_generator", "fit_encoder"} | inverts,
    }
    if "fit_encoder" in experiment.stages:
        needed["encoder"] = {"fit_encoder"} | inverts
    named = named_classifiers(experiment)
    for name in named:
        needed[roles.of_classifier(name)] = {"fit_classifiers"}
        if experiment.classifier_of(name).needs_spanner:
            needed["generator"] |= {"fit_classifiers"}
            # An encoder only comes along, where there is one.
            needed.get("encoder", set()).add("fit_classifiers")
    for name in experiment.evaluation.classifiers:
        needed[roles.of_classifier(name)] |= {"attack", "evaluate", "audit"}
    if any(CLASSIFIER in _line(experiment, name) for name in named):
        needed["classifier"] |= {"fit_classifiers"}
    for name in trained_networks(experiment):
        using = {"attack", "evaluate", "audit"}
        needed[roles.of_network(name)] = {"fit_networks"} | using
    return tuple(role for role, users in needed.items() if users & set(stages))


def trained_networks(experiment: Experiment) -> tuple[str, ...]:
    """Returns the roles of those of `config.networks` that the run trains, in order."""
    named = experiment.networks.items()
    return tuple(role for role, block in named if block.training is not None)


def named_classifiers(experiment: Experiment) -> tuple[str, ...]:
    """Returns those of the config's `classifiers` that are trained, in their order.

    They are those that a column names, and those that their training needs; where
    no stage of the run has columns, all of them.
    """
    using = {"attack", "evaluate"} & set(experiment.stages)
    wanted = experiment.evaluation.classifiers
    if not using:
        wanted = tuple(experiment.classifiers)
    lines = [name for last in wanted for name in _line(experiment, last)]
    return tuple(name for name in dict.fromkeys(lines) if name != CLASSIFIER)


def _line(experiment: Experiment, name: str) -> tuple[str, ...]:
    """Returns a classifier after those that its training needs."""
    return (*experiment.trained_for(name), name)


def generating_stages(experiment: Experiment) -> set[str]:
    """Returns the stages that need the generator for a defence or an adversary."""
    block = experiment.evaluation
    kinds = {text.partition("(")[0] for text in block.adversaries}
    searches = "latent" in kinds and bool(block.attacks)
    generating = {GENERATOR, ENCODER}
    if not any(generating & set(c.defence.needs) for c in block.columns):
        stand_ins = _needs_of_adversaries(experiment)
        if block.attacks and any(generating & needs for needs in stand_ins):
            # The audit looks through the adversary's eyes, too.
            return {"attack", "audit"}
        return {"attack"} if searches else set()
    # All but the oblivious adversary meet the defended classifier itself, a
    # substitute where it is trained.
    meets = bool(kinds - {"oblivious"}) and bool(block.attacks)
    meets |= block.worst_case is not None
    return {"evaluate", "audit"} | ({"attack"} if meets else set())


def _needs_of_adversaries(experiment: Experiment) -> Iterator[set[str]]:
    """Yields the roles of networks that each adversary needs of its own."""
    block = experiment.evaluation
    for spec in map(defenses.adversaries.build, block.adversaries):
        for column in block.columns:
            yield set(spec.needs(column.defence))
