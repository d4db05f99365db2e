"""The slides' table, and a cascade beside it, on Fashion-MNIST.

  TFDS_DATA_DIR=... python -m robust_manifold.main \
      --config=experiments/fashion.py:COLUMN --workdir=runs/fashion/COLUMN

COLUMN is one of

  none     no defence, the columns' common classifier
  robust   no defence, a network trained on attacked images (PGD, linf 0.1, at which
           Wong and Kolter 2018 certify networks of Fashion-MNIST)
  inc_gan  Invert and Classify on a GAN of 64 latent dimensions
  inc_vae  the same on the paper's VAE of 20

The data, once, from Debian's dataset-fashion-mnist or any folder of the four idx files:

  python -m robust_manifold.data.prepare fashion_mnist --data_dir=$TFDS_DATA_DIR \
      --manual_dir=/usr/share/datasets/fashion-mnist

Each column is a run of its own, since a run has one generator; so it is also resumed
and recorded alone, and the page of results sets them side by side.  The classifier of
another run is taken over by --config.classifier.from_run=DIR, and so generator and
encoder.

The slides' rows are oblivious: their attacks are made on the bare network.  The cascade
knows of the defence, and is the same strong attack with the same effort on every
column.  The inversion is a full one, as in mnist_manifolds.py.
"""

from robust_manifold.config import add_classifier, default_config

INC = (
    "invert_and_classify(solver=lbfgs(steps=50), "
    "restarts=restarts(count=4, encoded=1, halve_at=(10, 20)))"
)
COLUMNS = {
    "none": ("none", 200),
    "robust": ("none on robust", 100),
    "inc_gan": (INC, 50),
    "inc_vae": (INC, 50),
}
"""The defence of each column, and its number of test images."""
ADAM = "adam(learning_rate=0.0005, b1=0.5, b2=0.9)"
GENERATORS = {
    "inc_gan": (
        "dcgan_generator(latent_size=64, width=32)",
        "gan(loss='wgan_gp', discriminator=dcgan_discriminator(width=32), "
        f"discriminator_steps=3, optimizer={ADAM}, discriminator_optimizer={ADAM})",
    ),
    "inc_vae": ("vae_decoder(latent_size=20)", "vae(encoder=vae_encoder)"),
}
"""The generator of a column, and its training: those of mnist_manifolds.py."""


def get_config(column="none"):
    if column not in COLUMNS:
        raise ValueError(f"The column is {column!r}; allowed: {', '.join(COLUMNS)}")
    config = default_config()
    config.title = "The slides' table on Fashion-MNIST"
    without = ["measure", "diagnose"]
    if column not in GENERATORS:
        without += ["fit_generator", "fit_encoder"]
    if column == "robust":
        without += ["fit_classifier"]
    config.stages = tuple(stage for stage in config.stages if stage not in without)
    config.data.source = "tfds:fashion_mnist"
    config.data.validation_examples = 5000

    config.classifier.model = "small_cnn"
    config.classifier.duration = "6 epochs"
    config.classifier.batch_size = 128
    config.classifier.training = (
        "cross_entropy(optimizer=adam(learning_rate=0.002, schedule='cosine'))"
    )
    if column in GENERATORS:
        config.generator.model, config.generator.training = GENERATORS[column]
    config.generator.duration = "5 epochs" if column == "inc_gan" else "10 epochs"
    config.encoder.duration = "5 epochs"
    config.training.checkpoint_every = 500
    config.measures.validation_examples = 0
    if column == "robust":
        add_classifier(
            config,
            "robust",
            training=(
                "adversarial(attack=pgd(epsilon=0.1, steps=5, step_size=0.04), "
                "optimizer=adam(learning_rate=0.001, schedule='cosine'))"
            ),
            duration="3 epochs",
        )

    defence, examples = COLUMNS[column]
    config.evaluation.defences = (defence,)
    config.evaluation.examples = examples
    config.evaluation.round_size = 50
    config.evaluation.attacks = (
        "fgsm(epsilon=0.05)",
        "fgsm(epsilon=0.1)",
        "fgsm(epsilon=0.2)",
        "pgd(epsilon=0.1)",
        "pgd(epsilon=1.5, norm='l2')",
        "carlini_wagner(norm='l2')",
    )
    config.evaluation.adversaries = ("oblivious",)
    config.evaluation.worst_case = (
        "cascade(effort='standard', linf=(0.05, 0.1, 0.2), l2=(1.5,))"
    )
    config.report.pictures = 10
    return config
