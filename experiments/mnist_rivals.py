"""Rivals of Invert and Classify on MNIST, under the cascade of mnist_adaptive.py.

  TFDS_DATA_DIR=... python -m robust_manifold.main \
      --config=experiments/mnist_rivals.py:COLUMN --workdir=runs/rivals/COLUMN

COLUMN is one of

  abs         analysis by synthesis (Schott et al. 2018): a VAE for each class, whose
              best bound is the class's logit
  abs_binary  the same of pixels rounded to 0 or 1
  codebook    nearest of 4,000 trained prototypes, whose radii are certified, as in
              mnist_certified.py; --config.pretrained=True takes the published ones

Each is a run of its own, so that it is resumed and recorded alone.  Budgets and cascade
are those of mnist_adaptive.py, beside whose columns these stand: linf 0.1, 0.2 and 0.3
and l2 1.5 and 2.5.

The ten decoders are small and fully connected, 8-150-150-784, and are trained at once
with an encoder that they share; the authors' are convolutional.  Deviations and scale
were chosen on validation digits, and so was the search: 4 steps of Levenberg-Marquardt
from the best of 1,000 draws in place of 50 gradient steps from the best of 8,000.

No column has been run to its end yet.
"""

from robust_manifold.config import add_classifier, default_config

SEARCH = "solver=levenberg_marquardt(steps=4), draws=1000, deviation=0.3, scale=0.1"
COLUMNS = {
    "abs": (f"analysis_by_synthesis({SEARCH})", 50),
    "abs_binary": (f"analysis_by_synthesis({SEARCH}, binary=True)", 50),
    "codebook": ("none on free", 200),
}
"""The defence of each column, and its number of test digits."""
BUDGETS = {"linf": (0.1, 0.2, 0.3), "l2": (1.5, 2.5)}


def get_config(column="abs"):
    if column not in COLUMNS:
        raise ValueError(f"The column is {column!r}; allowed: {', '.join(COLUMNS)}")
    config = default_config()
    config.title = "Rivals of Invert and Classify on MNIST"
    without = ["measure", "diagnose", "fit_encoder"]
    if column == "codebook":
        without += ["fit_classifier", "fit_generator"]
    config.stages = tuple(stage for stage in config.stages if stage not in without)
    config.data.source = "tfds:mnist"
    config.data.validation_examples = 5000

    config.classifier.model = "small_cnn"
    config.classifier.duration = "6 epochs"
    config.classifier.batch_size = 128
    config.classifier.training = (
        "cross_entropy(optimizer=adam(learning_rate=0.002, schedule='cosine'))"
    )
    config.generator.model = (
        "one_per_class(latent_size=8, decoder=vae_decoder(hidden=150))"
    )
    config.generator.training = (
        "vae(encoder=vae_encoder(latent_size=8), likelihood='gaussian', "
        "deviation=0.2, optimizer=adam(0.002, schedule='cosine'), average_decay=0.998)"
    )
    config.generator.duration = "40 epochs"
    config.generator.batch_size = 128
    config.classifier.published = "mnist_small_cnn"
    config.training.checkpoint_every = 2000
    config.measures.validation_examples = 0

    defence, examples = COLUMNS[column]
    if column == "codebook":
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
    config.evaluation.defences = (defence,)
    config.evaluation.examples = examples
    config.evaluation.round_size = 25
    config.evaluation.worst_case = (
        f"cascade(effort='standard', linf={BUDGETS['linf']}, l2={BUDGETS['l2']})"
    )
    config.evaluation.attacks = tuple(
        f"pgd(epsilon={epsilon}, norm={norm!r}, steps=20)"
        for norm, every in BUDGETS.items()
        for epsilon in every
    )
    config.evaluation.adversaries = ("oblivious",)
    config.audit.stronger = 32
    if column != "codebook":
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
