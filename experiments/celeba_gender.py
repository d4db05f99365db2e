r"""Gender on CelebA faces: attacked, inverted, classified; with the slides' pictures.

  TFDS_DATA_DIR=... python -m robust_manifold.main \
      --config=experiments/celeba_gender.py:BUDGET --workdir=runs/celeba_gender

BUDGET is `small` (by default; two CPU cores) or `full` (an accelerator).  Needs
`tfds:celeb_a`, prepared by `python -m robust_manifold.data.prepare celeb_a`.  CelebA
is for non-commercial research: keep pictures of its faces to yourself.

Faces are cut out as Defense-GAN does (the central 108 x 108), resized to 64 x 64 and
mirrored at random in training; partition and attribute are CelebA's own.

The small budget took 16 min (classifier), 42 min (VAE) and 9 min (the rest) on two CPU
cores with much other work beside it.  Seed 0, the first 200 test faces, accuracy in %
[95 % Wilson interval]:

                     no defence           Invert and Classify
  clean              96.0 [92.3, 98.0]    93.0 [88.6, 95.8]
  FGSM 0.01           5.0 [2.7, 9.0]      92.0 [87.4, 95.0]
  FGSM 0.03           0.0 [0.0, 1.9]      90.0 [85.1, 93.4]
  PGD 0.01            0.0 [0.0, 1.9]      92.0 [87.4, 95.0]
  PGD 0.03            0.0 [0.0, 1.9]      91.0 [86.2, 94.2]

The attacks do not know of the defence.  The full budget has not been run to its end.
"""

from robust_manifold.config import default_config


def get_config(budget="small"):
    if budget not in BUDGETS:
        raise ValueError(f"The budget is {budget!r}; allowed: {', '.join(BUDGETS)}")
    config = default_config()
    config.title = "Invert and Classify on CelebA: gender"
    config.data.source = "tfds:celeb_a"
    config.data.label = "Male"
    config.data.class_names = ("woman", "man")
    config.data.crop = "defense_gan"
    config.data.image_size = 64
    config.data.flip = True
    config.data.validation_examples = 0

    config.report.pictures = 8
    config.evaluation.attacks = (
        "fgsm(epsilon=0.01)",
        "fgsm(epsilon=0.03)",
        "pgd(epsilon=0.01)",
        "pgd(epsilon=0.03)",
    )
    BUDGETS[budget](config)
    return config


def _small(config):
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
    # The figures above are of starts drawn from the prior.
    without = ("fit_encoder", "diagnose")
    config.stages = tuple(stage for stage in config.stages if stage not in without)
    config.measures.examples = 200
    config.measures.solver = "adam(steps=100)"
    config.measures.restarts = "4"
    config.measures.samples = 1000
    config.evaluation.examples = 200
    config.evaluation.defences = (
        "none",
        "invert_and_classify(solver=adam(steps=100), restarts=2)",
    )


def _full(config):
    config.classifier.model = "residual_cnn(width=64, dropout=0.2)"
    config.classifier.training = (
        "cross_entropy(optimizer=adam(learning_rate=0.002, schedule='cosine'), "
        "label_smoothing=0.1)"
    )
    config.classifier.duration = "40 epochs"
    config.classifier.batch_size = 128
    config.generator.model = "dcgan_generator(latent_size=128, width=64, kernel_size=5)"
    adam = "adam(learning_rate=0.0002, b1=0.5, b2=0.9)"
    config.generator.training = (
        "gan(loss='wgan_gp', "
        "discriminator=dcgan_discriminator(width=64, kernel_size=5), "
        f"discriminator_steps=3, optimizer={adam}, discriminator_optimizer={adam})"
    )
    config.generator.duration = "30000 steps"
    config.encoder.duration = "3 epochs"
    config.training.checkpoint_every = 5000
    config.measures.examples = 500
    config.measures.samples = 1977
    config.evaluation.examples = 500
    config.evaluation.defences = ("none", "invert_and_classify")


BUDGETS = {"small": _small, "full": _full}
