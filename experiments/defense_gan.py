r"""Defense-GAN's white-box table: as published, and when the attacks know of it.

  TFDS_DATA_DIR=... python -m robust_manifold.main \
      --config=experiments/defense_gan.py:BUDGET --workdir=runs/defense_gan

BUDGET is `small` (by default; two CPU cores) or `full` (an accelerator; Defense-GAN's
own generator and its recipe of 200 steps from 10 starts).

Columns: the six classifiers of Samangouei et al. 2018, `a` to `f`, each bare and behind
Defense-GAN (small: 50 steps from 2 starts on the 20-dimensional VAE).  Rows: FGSM and
RAND+FGSM at 0.3 and Carlini-Wagner in l2, first by the oblivious adversary: the
published gradients through the projection vanish, which leaves an attack about as good
as that.  Then the same through the defence, by the gradients of every step of the
inversion; the search over latents within 0.3, which has no business with
Carlini-Wagner; and at 0.3 a cascade, the same strong attack with the same effort on
every column, since no single step is a worst case.  The headline of a column is its
worst case: an image counts as right at a budget if it is right under all rows within
it.

Networks of another run are taken over by --config.generator.from_run=DIR, and so for
encoder and --config.classifiers.a to .f.

As it was without the cascade, with PGD and straight-through gradients in its place.
Small, on two CPU cores with other work beside it: 26 min of training (the generator
taken over), attack 68 min, evaluate and audit 4 min.  n = 100 test digits, seed 0,
accuracy in % (95 % Wilson intervals are 2 to 4 points to each side near 2 %, 10 near
40 %); bare network | behind Defense-GAN, and in the last two rows behind it alone:

                                  a         b         c         d        e        f
  clean                       98 | 98   97 | 97   98 | 98   97 | 98  98 | 98  99 | 98
  FGSM 0.3, oblivious          4 | 40    7 | 25    8 | 49    1 | 33   0 | 32   0 | 33
  RAND+FGSM 0.3, oblivious     3 | 54    9 | 46    6 | 62    2 | 47   0 | 53   0 | 47
  Carlini-Wagner, oblivious    0 | 97    0 | 96    0 | 97    0 | 98   0 | 98   0 | 98
  Carlini-Wagner, unrolled          0         0         0         0        0        0
  worst case within 0.3             4         4         3         1        1        3
"""

from robust_manifold.config import add_classifier, default_config

NAMES = ("a", "b", "c", "d", "e", "f")
DENSE = ("d", "e")


def get_config(budget="small"):
    if budget not in BUDGETS:
        raise ValueError(f"The budget is {budget!r}; allowed: {', '.join(BUDGETS)}")
    config = default_config()
    config.title = "Defense-GAN's classifiers, as published and in the worst case"
    # No column has the run's own classifier: all six have names.
    without = ("fit_classifier", "measure", "diagnose")
    config.stages = tuple(stage for stage in config.stages if stage not in without)
    config.data.source = "tfds:mnist"
    config.data.validation_examples = 5000
    config.training.checkpoint_every = 500
    config.measures.validation_examples = 0
    BUDGETS[budget](config)
    return config


def _small(config):
    config.classifier.batch_size = 128
    config.classifier.training = (
        "cross_entropy(optimizer=adam(learning_rate=0.001, schedule='cosine'))"
    )
    _add_classifiers(config, convolutional="2 epochs", dense="10 epochs")
    config.generator.model = "vae_decoder(latent_size=20)"
    config.generator.training = "vae(encoder=vae_encoder)"
    config.generator.duration = "10 epochs"
    carlini_wagner = "carlini_wagner(norm='l2', binary_search_steps=5, steps=100)"
    config.evaluation.worst_case = "cascade(effort='standard', linf=(0.3,))"
    _evaluate(config, "defense_gan(steps=50, restarts=2)", carlini_wagner)
    config.evaluation.adversaries = (
        "oblivious",
        "unrolled",
        "latent(steps=200, restarts=2)",
    )
    config.evaluation.examples = 100
    config.evaluation.validation_examples = 100
    config.audit.examples = 8
    # Each of them compiles an attack of its own, twelve times here.
    config.audit.left_out = (
        "stronger pass",
        "more steps",
        "more restarts",
        "scores against white box",
        "scale of the logits",
        "unbounded budget",
    )


def _full(config):
    config.classifier.batch_size = 128
    config.classifier.training = "cross_entropy(optimizer=adam(learning_rate=0.001))"
    _add_classifiers(config, convolutional="10 epochs", dense="10 epochs")
    config.generator.model = "defense_gan_generator"
    adam = "adam(learning_rate=0.0001, b1=0.5, b2=0.9)"
    config.generator.training = (
        "gan(loss='wgan_gp', discriminator=defense_gan_discriminator, "
        f"discriminator_steps=5, optimizer={adam}, discriminator_optimizer={adam})"
    )
    config.generator.duration = "200000 steps"
    config.generator.batch_size = 50
    config.training.checkpoint_every = 5000
    config.evaluation.worst_case = "cascade(effort='thorough', linf=(0.3,))"
    _evaluate(config, "defense_gan", "carlini_wagner(norm='l2')")
    config.evaluation.adversaries = (
        "oblivious",
        "unrolled",
        "latent(steps=500, restarts=10)",
    )
    config.evaluation.examples = 1000


def _add_classifiers(config, convolutional, dense):
    for name in NAMES:
        add_classifier(
            config,
            name,
            model=f"defense_gan_{name}",
            duration=dense if name in DENSE else convolutional,
        )


def _evaluate(config, defense_gan, carlini_wagner):
    """Sets the columns and the rows."""
    config.evaluation.defences = tuple(
        f"{defence} on {name}" for name in NAMES for defence in ("none", defense_gan)
    )
    config.evaluation.attacks = (
        "fgsm(epsilon=0.3)",
        "rand_fgsm(epsilon=0.3)",
        carlini_wagner,
    )


BUDGETS = {"small": _small, "full": _full}
