"""Analysis by synthesis in a run: its generator, its rows, and what is refused."""

import numpy as np
import pandas as pd

from robust_manifold.stages import RUNS
from tests.stages.test_adversaries_stage import read

ABS = "analysis_by_synthesis(solver=levenberg_marquardt(steps=2), draws=20, classes={})"
DECODERS = "one_per_class(latent_size=2, decoder=vae_decoder(hidden=4))"


def settings(classes):
    return [
        "--config.stages=('fit_classifier','fit_generator','attack','evaluate')",
        f"--config.generator.model={DECODERS}",
        "--config.generator.training=vae(encoder=vae_encoder(latent_size=2, hidden=4))",
        "--config.evaluation.adversaries=('straight_through',)",
        "--config.evaluation.attacks=('fgsm(epsilon=0.2)',)",
        f"--config.evaluation.defences=('{ABS.format(classes)}',)",
    ]


def test_a_run_trains_its_decoders_and_attacks_it(program, project):
    work = project / "run"
    ended = program(
        f"--config={project / 'tiny.py'}", f"--workdir={work}", *settings(3)
    )
    assert ended.code == 0, ended.error
    results = pd.read_csv(work / "results.csv")
    assert {"straight_through", "worst case"} <= set(results["adversary"])
    (folder,) = {path.parent for path in work.glob("**/clean/round-*.npz")}
    clean = read(work, folder)
    assert clean["details.latents"].shape[1:] == (3, 2)
    np.testing.assert_allclose(clean["logits"], clean["details.bounds"], rtol=1e-5)


def test_other_classes_are_refused_before_any_work(monkeypatch, program, project):
    fit = []
    monkeypatch.setitem(RUNS, "fit_classifier", lambda context: fit.append(1) or [])
    run = f"--workdir={project / 'run'}"
    ended = program(f"--config={project / 'tiny.py'}", run, *settings(10))
    assert ended.code == 2 and not fit
    assert (
        "config.evaluation.defences: AnalysisBySynthesis.classes is 10" in ended.error
    )
    plain = [*settings(3), "--config.generator.model=vae_decoder(latent_size=2)"]
    ended = program(f"--config={project / 'tiny.py'}", run, *plain)
    assert ended.code == 2 and not fit
    assert "knows of no classes; allowed: a class-conditional one" in ended.error
