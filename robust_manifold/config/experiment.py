"""A whole experiment: its blocks, and what must hold between them."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import ml_collections
import numpy as np

from robust_manifold import attacks, defenses, models
from robust_manifold.config.blocks import (
    Audit,
    Convergence,
    Data,
    Detection,
    Diagnostics,
    EvaluationBlock,
    Measures,
    OverpoweredBlock,
    ReportBlock,
    Stickers,
    Training,
)
from robust_manifold.config.column import CLASSIFIER
from robust_manifold.config.networks import (
    Classifier,
    DefenceNetwork,
    Encoder,
    Generator,
    NamedClassifier,
)
from robust_manifold.config.regression import check_task
from robust_manifold.config.schema import Block, check_types, key
from robust_manifold.core.criterion import MISCLASSIFIED, Criterion, Farthest
from robust_manifold.core.errors import UsageError, unknown_name
from robust_manifold.core.networks import ENCODER, GENERATOR, THRESHOLD
from robust_manifold.core.spec import check
from robust_manifold.data import road_signs
from robust_manifold.data.sources import RoadSigns, parse

STAGES = (
    "convergence",
    "fit_classifier",
    "fit_generator",
    "fit_encoder",
    "fit_classifiers",
    "fit_networks",
    "measure",
    "diagnose",
    "attack",
    "evaluate",
    "audit",
    "report",
)
"""The stages that a config can name, in the order in which they run."""

ADDED = ("convergence", "fit_networks")
"""Those that a config has only where it, or `add_network`, names them."""

FREE = ("title", "stages", "data.data_dir", "data.cache_dir", "report.pictures")
"""Keys of a config that may change in a run folder: no stored result depends on them.

What data.data_dir leads to is compared by checksum instead, and so is whether the
stages have an encoder.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Block):
    """A whole experiment, checked as far as it can be without its data."""

    title: str = key("", "heading of the report; empty: by what it shows")
    seed: int = key(0, "root of every random number of the run")
    pretrained: bool = key(
        False,
        "whether networks are taken from the published weights that their blocks name, "
        "in place of training them from scratch",
    )
    data: Data
    classifier: Classifier
    classifiers: Mapping[str, NamedClassifier] = key(
        {},
        "more of them by their names, each with the keys of `classifier`, and `start`: "
        "whose parameters it starts from, or did where it is taken over (empty: "
        "anew); a config file makes one by "
        "add_classifier(config, 'NAME', training=...)",
        block=NamedClassifier,
    )
    generator: Generator
    encoder: Encoder
    networks: Mapping[str, DefenceNetwork] = key(
        {},
        "further networks of defences by their roles, each with the keys `model`, and "
        "`weights` or `from_run` and `role`, or, where the run trains it, `training`, "
        "`duration` and `batch_size`; a config file makes "
        "one by add_network(config, 'ROLE', model=..., weights=...)",
        block=DefenceNetwork,
    )
    measures: Measures
    diagnostics: Diagnostics
    convergence: Convergence
    evaluation: EvaluationBlock
    detection: Detection
    overpowered: OverpoweredBlock
    stickers: Stickers
    audit: Audit
    training: Training
    stages: tuple[str, ...] = key(
        tuple(stage for stage in STAGES if stage not in ADDED),
        "what the run does, of its stages; see --stages",
        tuple,
    )
    report: ReportBlock

    def __post_init__(self):
        check(0 <= self.seed < 2**32, self, "seed", "0 to 2**32 - 1")
        check(bool(self.stages), self, "stages", f"some of {', '.join(STAGES)}")
        for name in self.stages:
            if name not in STAGES:
                raise unknown_name("stage", name, STAGES)
        for role in self.networks:
            check_name("networks", role)
        _check_starts(self)
        check_task(self)
        known = (CLASSIFIER, *self.classifiers)
        for column in self.evaluation.columns:
            if column.classifier not in known:
                error = unknown_name("classifier", column.classifier, known)
                raise UsageError(f"config.evaluation.defences: {error}")
        _check_stickers(self)
        if self.overpowered.pairs and not self.projected_classifiers:
            raise UsageError(
                f"config.overpowered.pairs is {self.overpowered.pairs}; allowed: 0 "
                "where no defence of evaluation.defences projects."
            )

    @property
    def regression(self) -> bool:
        """Whether networks tell numbers of an image, in place of its class."""
        return self.data.target is not None

    @property
    def wants(self) -> Criterion | None:
        """What attacks want in a regression; None where defences say it."""
        return (self.evaluation.criterion or Farthest()) if self.regression else None

    @property
    def projected_classifiers(self) -> tuple[str, ...]:
        """The names of the classifiers behind defences that project, each once."""
        columns = self.evaluation.columns
        names = (column.classifier for column in columns if column.projects)
        return tuple(dict.fromkeys(names))

    def classifier_of(self, name: str) -> Classifier:
        """Returns how the classifier of a name is made."""
        return self.classifier if name == CLASSIFIER else self.classifiers[name]

    def starts_of(self, name: str) -> tuple[str, ...]:
        """Returns the classifiers that one comes from, the first of them first."""
        start = self.classifier_of(name).start
        return (*self.starts_of(start), start) if start else ()

    def trained_for(self, name: str) -> tuple[str, ...]:
        """Returns those of `starts_of` that must be there before one is trained."""
        block = self.classifier_of(name)
        if block.taken_over or not block.start:
            return ()
        return (*self.trained_for(block.start), block.start)


NAMED = {name: key.block for name, key in Experiment.keys().items() if key.block}
"""What each value is of the keys that are mappings by names of the config's own."""

_NAME = re.compile("[a-z][a-z0-9_]*")
_OWN_ROLES = (GENERATOR, ENCODER, CLASSIFIER, THRESHOLD)
"""The roles of what a run makes itself."""
_LONGEST_NAME = 60
"""Characters: folders are called after a classifier, and more is to be read."""


def check_name(block: str, name: str) -> None:
    """Raises a `UsageError` for what cannot be a name in a block.

    Args:
      block: "classifiers" or "networks".
      name: of one of its entries.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{block} has the name {name!r}; allowed: small letters, digits and "
            "underscores, a letter first."
        )
    if len(name) > _LONGEST_NAME:
        raise UsageError(
            f"{block} has the name {name!r} of {len(name)} characters; allowed: at "
            f"most {_LONGEST_NAME}."
        )
    reserved, told = {
        # Results tell a classifier by this name, or by its model where it has none.
        "classifiers": (
            (CLASSIFIER, *models.registry.names),
            f"{CLASSIFIER!r} and the names of models",
        ),
        "networks": (_OWN_ROLES, ", ".join(map(repr, _OWN_ROLES))),
    }[block]
    if name in reserved:
        raise UsageError(
            f"{block} has the name {name!r}, which is reserved; allowed: any but "
            f"{told}."
        )


def _check_stickers(experiment: Experiment) -> None:
    """Refuses stickers that lie on no sign, or that no column can be asked about."""
    block, place = experiment.stickers, "config.stickers"
    if not block.sign:
        return
    images = experiment.data
    source = images.source.partition(":")[0].partition("(")[0]
    if source != "road_signs" or images.crop or images.image_size:
        raise UsageError(
            f"{place}.sign is {block.sign!r}; allowed where data.source is "
            f"{images.source!r}, or its images are cut or resized: empty."
        )
    signs = parse(images.source)
    assert isinstance(signs, RoadSigns)
    face = road_signs.face(block.sign, signs.size)
    for attack in block.attacks:
        text = attacks.registry.to_string(attack)
        assert isinstance(attack, attacks.Patch)
        mask = attack.covered(signs.size, signs.size)
        if (beside := int(np.count_nonzero(mask & ~face.mask))) > 0:
            raise UsageError(
                f"{place}.attacks: the mask of {text!r} covers {beside} pixel"
                f"{'s' * (beside > 1)} beside the sign {block.sign!r}; allowed: pixels "
                "on it."
            )
        if attack.positions > 1:
            raise UsageError(
                f"{place}.attacks: {text!r} tries other positions, where the mask may "
                "leave the sign; allowed: positions=1."
            )
    for text in block.adversaries:
        for column in experiment.evaluation.columns:
            defenses.adversaries.build(text).check_meets(column.defence)
    for column in experiment.evaluation.columns:
        if column.defence.criterion != MISCLASSIFIED:
            raise UsageError(
                f"{place}.sign is {block.sign!r}; allowed with the column "
                f"{column.text!r}, which may reject: empty."
            )


def _check_starts(experiment: Experiment) -> None:
    """Refuses classifiers that nothing can be trained from."""
    if experiment.classifier.needs_spanner:
        raise UsageError(
            "config.classifier.training needs the generator, which is trained after "
            "it; allowed: a training without one (put this one into classifiers)."
        )
    known = (CLASSIFIER, *experiment.classifiers)
    for name, block in experiment.classifiers.items():
        check_name("classifiers", name)
        place, line = f"config.classifiers.{name}.start", [name]
        while start := experiment.classifier_of(line[-1]).start:
            if start not in known:
                raise UsageError(f"{place}: {unknown_name('classifier', start, known)}")
            line.append(start)
            if line.count(start) > 1:
                circle = " from ".join(map(repr, line))
                raise UsageError(
                    f"{place} is {block.start!r}, which leads in a circle ({circle}); "
                    f"allowed: {CLASSIFIER!r}, or a classifier that does not."
                )
        if block.start and experiment.classifier_of(block.start).model != block.model:
            model = models.registry.to_string(block.model)
            other = models.registry.to_string(
                experiment.classifier_of(block.start).model
            )
            raise UsageError(
                f"{place} is {block.start!r}, which is {other!r}; allowed: a "
                f"classifier of the same model, {model!r}."
            )


def validate(config: Any) -> Experiment:
    """Returns the frozen experiment that a config describes.

    Raises:
      UsageError: for a key that the schema lacks, a value of another type, the name
        of no component, or an impossible value; the sentence names key and value.
    """
    if not isinstance(config, ml_collections.ConfigDict):
        raise UsageError(
            f"get_config() returned {type(config).__name__}; allowed: a ConfigDict "
            "made by robust_manifold.config.default_config()."
        )
    check_types(config, Experiment)
    return _with_published(Experiment.build(config.to_dict()))


def _with_published(experiment: Experiment) -> Experiment:
    """Returns the experiment with the names of those published weights it takes."""
    blocks = {
        name: _published(experiment, name, getattr(experiment, name))
        for name in (CLASSIFIER, "generator", "encoder")
    }
    named = {
        name: _published(experiment, f"classifiers.{name}", block)
        for name, block in experiment.classifiers.items()
    }
    by_role = {
        name: _published(experiment, f"networks.{name}", block)
        for name, block in experiment.networks.items()
    }
    if experiment.pretrained:
        # One's own networks may stand in for all of them.
        own = (getattr(experiment, name) for name in blocks)
        named_too = (*experiment.classifiers.values(), *experiment.networks.values())
        networks = (*own, *named_too)
        if not any(block.published for block in networks):
            raise UsageError(_NONE_PUBLISHED.format("this experiment"))
    return dataclasses.replace(
        experiment, **blocks, classifiers=named, networks=by_role
    )


_NONE_PUBLISHED = (
    "config.pretrained is True, and no weights are published for {}; allowed: False, "
    "or an experiment that names published weights, such as mnist."
)


def _published(experiment: Experiment, place: str, block: Any) -> Any:
    """Returns the block of a network, `published` empty unless it is taken from it."""
    if not experiment.pretrained or block.from_run or block.weights:
        return dataclasses.replace(block, published="")
    block_name, _, name = place.partition(".")
    stage = f"fit_{block_name}"
    # What starts from another network is not trained from scratch.
    spared = isinstance(block, Classifier) and bool(block.start)
    if block_name != "networks":
        spared |= _left_behind(experiment, name or place)
    if not block.published and not spared and stage in experiment.stages:
        raise UsageError(_NONE_PUBLISHED.format(f"config.{place}"))
    return block


def _left_behind(experiment: Experiment, name: str) -> bool:
    """Returns whether a classifier is but what some taken over once started from."""
    ends = [each for each in experiment.classifiers.values() if each.start == name]
    used = name in experiment.evaluation.classifiers
    return bool(ends) and all(each.taken_over for each in ends) and not used
