"""Invert and Classify against Enhanced Invert and Classify, with a control beside.

  TFDS_DATA_DIR=... python -m robust_manifold.main --config=FILE

where FILE is experiments/mnist_enhanced.py.

Three classifiers of one network: the plain one; `enhanced`, which goes on from it with
the slides' min-max objective on pairs of generated images within 1.5 of each other in
plain l2; and `control`, which goes on for as long without the pairs, since more
training changes a classifier, too.  Each is attacked bare, and behind the same
projection, and each is asked for latent pairs by a stronger search than the training's;
the report has sheets of pictures for each column and of the pairs that were found.

The generator is the VAE of the paper's MNIST experiments: its 20 latent dimensions make
an inversion of four Levenberg-Marquardt steps from the encoder's guess.  Networks of
another run are taken over by --config.classifier.from_run=DIR, and so for generator and
encoder.

Not run yet.
"""

from robust_manifold.config import add_classifier, default_config

INC = (
    "invert_and_classify(solver=levenberg_marquardt(steps=4), "
    "restarts=restarts(count=2, encoded=1))"
)
SEARCH = "overpowered(eta=1.5, steps=200, restarts=1)"


def get_config():
    config = default_config()
    config.title = "Invert and Classify and its enhancement on MNIST"
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
    config.training.checkpoint_every = 2000
    config.measures.validation_examples = 0

    optimizer = "optimizer=adam(learning_rate=0.0005, schedule='cosine')"
    for name, mu in (("enhanced", 0.667), ("control", 0.0)):
        add_classifier(
            config,
            name,
            start="classifier",
            training=f"enhanced_inc({optimizer}, mu={mu}, search={SEARCH})",
            duration="2 epochs",
        )

    # More restarts and steps than the training had; the first looks for the supremum
    # that is trained against, the others for other classes.
    config.overpowered.pairs = 200
    config.overpowered.searches = (
        "overpowered(eta=1.5, steps=300, restarts=4, loss='probabilities', "
        "supremum=True)",
        "overpowered(eta=1.5, steps=300, restarts=4)",
        "overpowered(eta=4.0, steps=300, restarts=4)",
    )
    config.evaluation.examples = 500
    config.evaluation.attacks = (
        "fgsm(epsilon=0.1)",
        "fgsm(epsilon=0.2)",
        "pgd(epsilon=0.1, steps=20)",
        "pgd(epsilon=0.2, steps=20)",
        "pgd(epsilon=1.5, norm='l2', steps=20)",
    )
    config.evaluation.adversaries = (
        "oblivious",
        "straight_through",
        "latent(steps=200, restarts=2)",
    )
    config.evaluation.defences = (
        "none",
        INC,
        "none on enhanced",
        f"{INC} on enhanced",
        "none on control",
        f"{INC} on control",
    )
    return config
