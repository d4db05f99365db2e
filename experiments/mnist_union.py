r"""One defence against all attacks? Four norms at once, on MNIST.

  TFDS_DATA_DIR=... python -m robust_manifold.main \
      --config=experiments/mnist_union.py:COLUMN --workdir=runs/union/COLUMN

COLUMN is one of

  none         no defence, the columns' common classifier
  robust       no defence, a network trained on digits attacked by PGD at linf 0.2
  msd          no defence, that network trained on by multi steepest descent: at linf
               0.3, l2 1.5 and l1 12 together (Maini et al. 2020)
  inc          Invert and Classify: 4 steps of Levenberg-Marquardt from 2 starts
  defense_gan  Defense-GAN, 50 steps from 2 starts
  enhanced     Enhanced Invert and Classify
  codebook     nearest of 4,000 trained prototypes, as in mnist_certified.py

Each is a run of its own, so that it is resumed and recorded alone; the page of results
sets them side by side.  --config.pretrained=True takes the published networks; that of
`msd` is trained, from the published one of `robust`.

Balls: linf 0.2 and 0.3, l2 1.5, l1 12, and l0 12, in which 12 pixels may change.  The
same cascade attacks every column in each of them; in l0 its members are sigma-zero,
from several starts, and Sparse-RS.  What counts are the unions: an image is right only
if it is right in all balls of one, since the attacker picks the norm.  The first is
that of Maini et al., whose MSD keeps 58.7 %, the worst of three PGDs 53.7 %, ABS 8 %
and binary ABS 39 % of their digits in it, under their attacks; the second takes the
smaller linf ball and adds l0.  That ball lies in the one of l1: it can lower the union
only by what attacks in l1 miss, and its own line says what few pixels do.

Steps and Sparse-RS's place in the l0 cascade were chosen on 100 validation digits.

No column has been run to its end yet.
"""

from robust_manifold.config import add_classifier, default_config

INC = (
    "invert_and_classify(solver=levenberg_marquardt(steps=4), "
    "restarts=restarts(count=2, encoded=1))"
)
DEFENSE_GAN = "defense_gan(steps=50, restarts=2)"
COLUMNS = {
    "none": ("none", 100),
    "robust": ("none on robust", 100),
    "msd": ("none on msd", 100),
    "inc": (INC, 50),
    "defense_gan": (DEFENSE_GAN, 50),
    "enhanced": (f"{INC} on enhanced", 50),
    "codebook": ("none on free", 100),
}
"""The defence of each column, and its number of test digits."""
BALLS = {"linf": (0.2, 0.3), "l2": (1.5,), "l1": (12.0,), "l0": (12,)}
UNIONS = (
    "union(linf=0.3, l2=1.5, l1=12.0)",
    "union(linf=0.2, l2=1.5, l1=12.0, l0=12.0)",
)


def get_config(column="none"):
    if column not in COLUMNS:
        raise ValueError(f"The column is {column!r}; allowed: {', '.join(COLUMNS)}")
    config = default_config()
    config.title = "One defence against all attacks? The union of four norms on MNIST"
    without = ("measure", "diagnose")
    config.stages = tuple(stage for stage in config.stages if stage not in without)
    config.data.source = "tfds:mnist"
    config.data.validation_examples = 5000

    config.classifier.model = "small_cnn"
    config.classifier.duration = "6 epochs"
    config.classifier.batch_size = 128
    config.classifier.training = (
        "cross_entropy(optimizer=adam(learning_rate=0.002, schedule='cosine'))"
    )
    config.generator.model = "vae_decoder(latent_size=20)"
    config.generator.training = "vae(encoder=vae_encoder)"
    config.generator.duration = "10 epochs"
    config.encoder.duration = "5 epochs"
    config.classifier.published = "mnist_small_cnn"
    config.generator.published = "mnist_vae_decoder"
    config.encoder.published = "mnist_vae_encoder"
    config.training.checkpoint_every = 200
    config.measures.validation_examples = 0
    add_classifier(
        config,
        "robust",
        published="mnist_small_cnn_pgd",
        training=(
            "adversarial(attack=pgd(epsilon=0.2, steps=7, step_size=0.05), "
            "optimizer=adam(learning_rate=0.001, schedule='cosine'))"
        ),
        duration="3 epochs",
    )
    add_classifier(
        config,
        "msd",
        start="robust",
        training=(
            "multi_steepest(linf=0.3, l2=1.5, l1=12.0, steps=6, "
            "optimizer=adam(learning_rate=0.001, schedule='cosine'))"
        ),
        duration="3 epochs",
    )
    add_classifier(
        config,
        "enhanced",
        start="classifier",
        training=(
            "enhanced_inc(optimizer=adam(learning_rate=0.0005, schedule='cosine'), "
            "mu=0.667, search=overpowered(eta=1.5, steps=200, restarts=1))"
        ),
        duration="2 epochs",
    )
    _add_codebook(config, "begun", rate=0.01, margin=2.5, duration="20 epochs")
    _add_codebook(
        config,
        "free",
        rate=0.006,
        margin=2.3,
        duration="50 epochs",
        start="begun",
        published="mnist_codebook",
    )

    defence, examples = COLUMNS[column]
    config.evaluation.defences = (defence,)
    config.evaluation.examples = examples
    config.evaluation.round_size = 50
    balls = ", ".join(f"{norm}={radii}" for norm, radii in BALLS.items())
    config.evaluation.worst_case = f"cascade(effort='standard', {balls})"
    config.evaluation.unions = UNIONS
    config.evaluation.attacks = tuple(
        f"pgd(epsilon={epsilon}, norm={norm!r}, steps=20)"
        for norm, every in BALLS.items()
        if norm != "l0"
        for epsilon in every
    )
    config.evaluation.adversaries = ("oblivious",)
    config.evaluation.certificates = ()
    config.audit.stronger = 32
    config.audit.left_out = ("stronger pass",)
    return config


def _add_codebook(config, name, rate, margin, **more):
    add_classifier(
        config,
        name,
        model="codebook(per_class=400)",
        training=(
            f"certified(adam({rate}, schedule='cosine'), margin={margin}, own=6, "
            "others=16, box=True, blur=0.7, average_decay=0.995, "
            "views=transformations(rotation=6.0, scale=0.05))"
        ),
        batch_size=500,
        **more,
    )
