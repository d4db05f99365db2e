r"""GANs for regression? A network tells by what angle a digit is turned, under attack.

  for name in vae gan pgd; do
    TFDS_DATA_DIR=... python -m robust_manifold.main \
        --config=experiments/mnist_regression.py:$name --workdir=runs/regression/$name
  done

Real digits, each turned by a known angle, drawn evenly from -45 to 45 degrees.  They
are interpolated with cubic splines: a bilinear filter would blur digits the more they
are turned, and the blur would tell of the angle.  What no network can know is how a
digit was slanted before, so that some error is left on clean images.

The network tells one number, in degrees, and learns by squared error; `pgd` goes on
from it with digits attacked by PGD at linf 0.1 on the same loss.  (From fresh
parameters at linf 0.2 it told the same angle of all digits.)  `vae` and `gan` put
Invert and Regress before it: the angle is told of the projection onto a generator of
turned digits, one network trained in two ways.  The projection takes 30 steps of Adam
from the encoder's guess.

Rows, at linf 0.1 and 0.2 and l2 1.5: Auto-PGD on the network alone, which does not know
of the projection, and a cascade, which does.  Nothing is far enough for its members:
each works on every image, and the largest error of an image counts.  The cascade is
smaller than `standard` (25 steps a climb, two ways to differentiate the projection).

Networks of another run are taken over by --config.generator.from_run=DIR, and so for
encoder and classifier.

On a share of about a tenth of one core: 3 min of training the network, 9 min of PGD, 6
min of the VAE, 11 min of the GAN, 4 to 8 min of the encoders; then 1 min of attacks on
a network alone, and about 50 on a projection.

n = 100 test digits, seed 0, mean error of the angle in degrees, worst case over both
adversaries [95 % bootstrap]:

              clean           linf 0.1          linf 0.2          l2 1.5
  no defence  7.6 [6.4, 9.0]  45.8 [43.6, 48.0] 79.4 [76.6, 82.2] 48.3 [46.0, 50.6]
  `vae`       7.9 [6.6, 9.2]  21.2 [19.5, 22.9] 35.8 [33.5, 38.0] 28.3 [26.5, 30.2]
  `gan`       8.8 [7.5, 10.1] 23.1 [21.1, 25.0] 35.2 [32.8, 37.6] 31.1 [28.9, 33.3]
  `pgd`       9.1 [7.7, 10.5] 15.3 [13.8, 16.8] 31.2 [29.2, 33.2] 20.8 [19.1, 22.6]
"""

from robust_manifold.config import add_classifier, default_config

ADAM = "adam(learning_rate=0.0005, b1=0.5, b2=0.9)"
TRAININGS = {
    "vae": "vae(encoder=conv_encoder(latent_size={latent}, width={width}))",
    "gan": (
        "gan(loss='wgan_gp', discriminator=dcgan_discriminator(width={width}), "
        f"discriminator_steps=2, optimizer={ADAM}, discriminator_optimizer={ADAM})"
    ),
}
KINDS = (*TRAININGS, "pgd")
COSINE = "optimizer=adam(learning_rate=0.002, schedule='cosine')"
PGD = "attack=pgd(epsilon=0.1, steps=7, step_size=0.035)"
INR = (
    "invert_and_classify(solver=adam(steps=30), restarts=restarts(count=1, encoded=1))"
)
EFFORT = (
    "effort(steps=25, aimed_steps=0, views=2, all_steps=0, queries=50, "
    "dampings=(0.001,), pilot=12, samples=1)"
)


def get_config(name="vae"):
    kind, _, size = name.partition(":")
    if kind not in KINDS or size not in ("", "tiny"):
        known = ", ".join(f"{kind}, {kind}:tiny" for kind in KINDS)
        raise ValueError(f"The training is {name!r}; allowed: {known}")
    config = default_config()
    config.title = "The angle of turned digits"
    if kind in TRAININGS:
        config.title = f"The angle of turned digits, Invert and Regress ({kind})"
    config.stages = (
        *("fit_classifier", "fit_generator", "fit_encoder", "fit_classifiers"),
        *("attack", "evaluate", "report"),
    )
    if kind == "pgd":
        without = ("fit_generator", "fit_encoder")
        config.stages = tuple(s for s in config.stages if s not in without)
    config.data.source = "tfds:mnist"
    config.data.target = "rotation(degrees=45.0)"
    config.data.validation_examples = 5000
    config.classifier.model = "wong_cnn"
    config.classifier.training = f"squared_error({COSINE})"
    config.classifier.duration = "6 epochs"
    config.classifier.batch_size = 128
    config.generator.model = "dcgan_generator(latent_size=32, width=16)"
    if kind in TRAININGS:
        config.generator.training = TRAININGS[kind].format(latent=32, width=16)
    config.generator.duration = "6 epochs"
    config.encoder.duration = "4 epochs"
    config.training.checkpoint_every = 500
    config.measures.validation_examples = 0
    config.evaluation.examples = 100
    config.evaluation.validation_examples = 0
    config.evaluation.attacks = (
        "apgd(epsilon=0.1, steps=40)",
        "apgd(epsilon=0.2, steps=40)",
        "apgd(epsilon=1.5, norm='l2', steps=40)",
    )
    config.evaluation.worst_case = (
        f"cascade(effort={EFFORT}, linf=(0.1, 0.2), l2=(1.5,))"
    )
    config.evaluation.defences = ("none", INR)
    if kind == "pgd":
        add_classifier(
            config,
            "pgd",
            model="wong_cnn",
            start="classifier",
            training=f"squared_error({COSINE}, {PGD})",
            duration="4 epochs",
            batch_size=128,
        )
        config.evaluation.defences = ("none on pgd",)
    if size:
        _tiny(config, kind)
    return config


def _tiny(config, kind):
    """Runs in a minute; its figures mean nothing."""
    config.data.source = "mnist_5k"
    config.data.validation_examples = 200
    config.data.test_examples = 200
    config.classifier.duration = "60 steps"
    for named in config.classifiers.values():
        named.duration = "10 steps"
    config.generator.model = "dcgan_generator(latent_size=8, width=4)"
    if kind in TRAININGS:
        config.generator.training = TRAININGS[kind].format(latent=8, width=4)
    config.generator.duration = "30 steps"
    config.encoder.model = "conv_encoder(latent_size=8, width=4)"
    config.encoder.duration = "20 steps"
    config.encoder.batch_size = 64
    config.evaluation.examples = 12
    config.evaluation.round_size = 6
    config.evaluation.attacks = ("pgd(epsilon=0.2, steps=3)",)
    config.evaluation.worst_case = (
        "cascade(linf=(0.2,), effort=effort(steps=3, aimed_steps=0, views=1, "
        "all_steps=0, queries=3, dampings=(0.001,), pilot=4, samples=1))"
    )
    config.evaluation.defences = tuple(
        text.replace("steps=30", "steps=3") for text in config.evaluation.defences
    )
    config.training.log_every = 10
    config.training.checkpoint_every = 20
