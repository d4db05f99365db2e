r"""Stickers that fool a classifier from many views, on digits and on faces.

  TFDS_DATA_DIR=... python -m robust_manifold.main \
      --config=experiments/mnist_patch.py:SUBJECT --workdir=runs/patch_SUBJECT

SUBJECT is `digits` (by default) or `faces`, which needs `tfds:celeb_a`.  Networks of
another run are taken over by --config.classifier.from_run=DIR, and so for generator and
encoder; the faces' networks are those of experiments/celeba_gender.py:small.

Each sticker is found by Adam over random views of the stickered image: turned, scaled,
moved, lit otherwise, with noise (Eykholt et al. 2018; Athalye et al. 2018).  The report
tells the share of fresh views that are misclassified, beside the table of accuracies,
which are of the untransformed images.

With networks taken over, on two CPU cores with much other work beside it: digits 335 s
(attack) and 91 s (evaluate), faces 344 s and 145 s.  Seed 0; 100 digits and 24 faces;
accuracy in % [95 % Wilson interval], and % of 100 views an image that are misclassified
without defence:

                        no defence           Invert and Classify   views
  digits, clean         99.0 [94.6, 99.8]    99.0 [94.6, 99.8]      2.7
  digits, square 0.2    73.0 [63.6, 80.7]    70.0 [60.4, 78.1]     30.1
  digits, square 0.3    30.0 [21.9, 39.6]    33.0 [24.6, 42.7]     68.9
  faces, clean         100.0 [86.2, 100.0]   87.5 [69.0, 95.7]     12.1
  faces, square 0.2     41.7 [24.5, 61.2]    75.0 [55.1, 88.0]     75.0
  faces, two bars        0.0 [0.0, 13.8]     70.8 [50.8, 85.1]     99.6

The attack does not know of the defence.
"""

from robust_manifold.config import default_config


def get_config(subject="digits"):
    if subject not in SUBJECTS:
        raise ValueError(f"The subject is {subject!r}; allowed: {', '.join(SUBJECTS)}")
    config = default_config()
    config.title = f"Stickers under transformations: {subject}"
    without = ("measure", "diagnose")
    config.stages = tuple(stage for stage in config.stages if stage not in without)
    SUBJECTS[subject](config)
    return config


def _digits(config):
    config.data.source = "tfds:mnist"
    config.data.validation_examples = 5000
    config.classifier.model = "small_cnn"
    config.classifier.duration = "6 epochs"
    config.classifier.batch_size = 128
    config.classifier.training = (
        "cross_entropy(optimizer=adam(learning_rate=0.002, schedule='cosine'))"
    )
    config.generator.model = "dcgan_generator(latent_size=64, width=32)"
    optimizer = "adam(learning_rate=0.0005, b1=0.5, b2=0.9)"
    config.generator.training = (
        "gan(loss='wgan_gp', discriminator=dcgan_discriminator(width=32), "
        f"discriminator_steps=3, optimizer={optimizer}, "
        f"discriminator_optimizer={optimizer})"
    )
    config.generator.duration = "8000 steps"
    config.encoder.duration = "5 epochs"
    config.evaluation.examples = 100
    config.evaluation.attacks = (
        "patch(mask=square(size=0.2), steps=50, learning_rate=0.1)",
        "patch(mask=square(size=0.3), steps=50, learning_rate=0.1)",
    )
    config.evaluation.defences = ("none", "invert_and_classify")
    config.report.pictures = 10


def _faces(config):
    config.data.source = "tfds:celeb_a"
    config.data.label = "Male"
    config.data.class_names = ("woman", "man")
    config.data.crop = "defense_gan"
    config.data.image_size = 64
    config.data.flip = True
    config.classifier.model = "residual_cnn(width=16)"
    config.classifier.training = (
        "cross_entropy(optimizer=adam(learning_rate=0.002, schedule='cosine'))"
    )
    config.classifier.duration = "8 epochs"
    config.generator.model = "dcgan_generator(latent_size=128, width=32)"
    config.generator.training = (
        "vae(encoder=conv_encoder(latent_size=128, width=32), "
        "optimizer=adam(learning_rate=0.001, schedule='cosine'), likelihood='gaussian')"
    )
    config.generator.duration = "15 epochs"
    config.stages = tuple(stage for stage in config.stages if stage != "fit_encoder")
    config.data.validation_examples = 0
    config.evaluation.examples = 24
    config.evaluation.attacks = (
        "patch(mask=square(size=0.2), steps=20, learning_rate=0.2, smoothness=0.1)",
        "patch(mask=stickers, steps=20, learning_rate=0.2, smoothness=0.1)",
    )
    config.evaluation.defences = (
        "none",
        "invert_and_classify(solver=adam(steps=50), restarts=2)",
    )
    config.report.pictures = 8


SUBJECTS = {"digits": _digits, "faces": _faces}
