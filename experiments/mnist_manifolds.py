"""GAN or VAE as the manifold: one classifier behind Invert and Classify on each.

  for name in wgan_gp conv_vae vae; do
    TFDS_DATA_DIR=... python -m robust_manifold.main \
        --config=experiments/mnist_manifolds.py:$name --workdir=runs/manifolds/$name
  done

The trainings are those of mnist_generators.py: `wgan_gp` and `conv_vae` train one
network of 64 latent dimensions in two ways, `vae` is the paper's of 20.  The classifier
is the same, and so are the attacks at linf 0.2 and l2 1.5: 100 steps of APGD by an
adversary that does not know of the defence, a search over latents, and a cascade, the
same strong attack with the same effort on every column.
The inversion is a full one (50 steps of L-BFGS from 4 starts, the encoder's guess among
them), where mnist_adaptive.py has 4 steps of Levenberg-Marquardt from 2.

Networks of another run are taken over by --config.generator.from_run=DIR, and so for
the classifier.

As it was without the cascade, by APGD as five adversaries made it.  On one CPU core
each, with other work beside it: 2 to 8 min of training (2 more of the
encoder), attack 26 min (wgan_gp), 30 min (conv_vae), 10 min (vae), evaluate and audit
1 min.  n = 200 test digits, seed 0, accuracy in %, oblivious | worst case per image
over all adversaries (95 % Wilson intervals are about 7 points to each side):

                clean    linf 0.2       l2 1.5
  no defence     99.5    0.0 |  0.0    21.0 | 21.0
  wgan_gp        99.5   93.0 | 58.5    94.0 | 66.0
  conv_vae       99.0   93.5 | 37.5    95.5 | 69.5
  vae            99.0   94.5 | 46.0    95.5 | 70.5

Nearly all of it was the implicit gradient's doing.  Its damping of 0.001 was chosen on
32 of these digits; the cascade chooses on validation digits.
"""

from robust_manifold.config import default_config

ADAM = "adam(learning_rate=0.0005, b1=0.5, b2=0.9)"
TRAININGS = {
    "wgan_gp": (
        "gan(loss='wgan_gp', discriminator=dcgan_discriminator(width=32), "
        f"discriminator_steps=3, optimizer={ADAM}, discriminator_optimizer={ADAM})"
    ),
    "conv_vae": "vae(encoder=conv_encoder(latent_size=64, width=32))",
    "vae": "vae(encoder=vae_encoder)",
}
INC = (
    "invert_and_classify(solver=lbfgs(steps=50), "
    "restarts=restarts(count=4, encoded=1, halve_at=(10, 20)))"
)


def get_config(name="wgan_gp"):
    if name not in TRAININGS:
        raise ValueError(f"The training is {name!r}; allowed: {', '.join(TRAININGS)}")
    config = default_config()
    config.title = "GAN or VAE as the manifold of Invert and Classify"
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
    config.generator.model = "dcgan_generator(latent_size=64, width=32)"
    if name == "vae":
        config.generator.model = "vae_decoder(latent_size=20)"
    config.generator.training = TRAININGS[name]
    config.generator.duration = "10 epochs"
    config.encoder.duration = "5 epochs"
    config.training.checkpoint_every = 2000
    config.measures.validation_examples = 0

    config.evaluation.examples = 200
    config.evaluation.validation_examples = 200
    config.evaluation.attacks = (
        "apgd(epsilon=0.2, steps=100)",
        "apgd(epsilon=1.5, norm='l2', steps=100)",
    )
    config.evaluation.worst_case = "cascade(effort='standard', linf=(0.2,), l2=(1.5,))"
    config.evaluation.adversaries = (
        "oblivious",
        "latent(steps=200, restarts=2)",
    )
    config.evaluation.defences = ("none", INC)
    config.audit.examples = 16
    # Each of them compiles an attack of its own.
    config.audit.left_out = (
        "stronger pass",
        "more steps",
        "more restarts",
        "unbounded budget",
    )
    return config
