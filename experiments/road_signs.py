"""Stickers on a stop sign, seen in many views, with Invert and Classify and without.

python -m robust_manifold.main --config=experiments/road_signs.py
python -m robust_manifold.main --config=experiments/road_signs.py:tiny
"""

from robust_manifold.config import default_config

VIEWS = (
    "transformations(rotation=10.0, scale=0.3, shift=0.06, contrast=0.35, "
    "brightness=0.1, noise=0.02, tilt=40.0, blur=0.6, outline='octagon')"
)
"""What the search for a sticker takes the views for; the source draws its own."""
MASKS = (
    "stickers(length=0.42, thickness=0.13, upper=0.27, lower=0.73)",
    "square(size=0.36)",
)


def get_config(form: str = ""):
    if form not in ("", "tiny"):
        raise ValueError(f"form is {form!r}; allowed: none, or tiny.")
    tiny = form == "tiny"
    config = default_config()
    config.title = "Stickers on a stop sign"
    config.stages = (
        *("fit_classifier", "fit_generator", "fit_encoder", "evaluate", "report"),
    )
    config.data.source = "road_signs(train=8000, validation=1000, test=1000)"
    if tiny:
        config.data.source = "road_signs(train=400, validation=50, test=50)"
    config.data.validation_examples = 0

    config.classifier.model = "small_cnn"
    config.classifier.duration = "60 steps" if tiny else "15 epochs"
    config.classifier.training = (
        "cross_entropy(optimizer=adam(learning_rate=0.001, schedule='cosine'))"
    )
    width = 4 if tiny else 32
    config.generator.model = f"dcgan_generator(latent_size=64, width={width})"
    config.generator.training = (
        f"vae(encoder=conv_encoder(latent_size=64, width={width}), "
        "optimizer=adam(learning_rate=0.001, schedule='cosine'), "
        "likelihood='gaussian', deviation=0.05)"
    )
    config.generator.duration = "20 steps" if tiny else "50 epochs"
    config.encoder.model = f"conv_encoder(latent_size=64, width={width})"
    config.encoder.duration = "20 steps" if tiny else "3 epochs"
    if tiny:
        config.measures.solver = "adam(steps=10)"
        config.measures.validation_examples = 8

    config.evaluation.examples = 20 if tiny else 300
    config.evaluation.attacks = ()
    config.evaluation.validation_examples = 50 if tiny else 200
    steps = 5 if tiny else 20
    config.evaluation.defences = (
        "none",
        f"invert_and_classify(solver=adam(steps={steps}), restarts=2)",
    )

    config.stickers.sign = "stop"
    config.stickers.target = "limit 80"
    steps, samples, judged = (3, 2, 2) if tiny else (40, 8, 12)
    config.stickers.attacks = tuple(
        f"patch(mask={mask}, steps={steps}, learning_rate=0.1, samples={samples}, "
        f"evaluation_samples={judged}, transformations={VIEWS})"
        for mask in (MASKS[-1:] if tiny else MASKS)
    )
    config.stickers.adversaries = ("oblivious", "straight_through(keys='fresh')")
    config.stickers.views = 12 if tiny else 200
    return config
