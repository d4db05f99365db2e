"""The one-dimensional training: what it measures, what it stores, what it refuses."""

import json

import numpy as np
import pandas as pd
import PIL.Image
import pytest

CONFIG = """
from robust_manifold.config import default_config


def get_config():
    config = default_config()
    config.stages = ("convergence", "report")
    config.convergence.training = (
        "gan(loss='minimax', discriminator=mlp_discriminator(hidden=8))"
    )
    config.convergence.generator = "mlp_generator(hidden=8)"
    config.convergence.steps = 40
    config.convergence.batch_size = 16
    config.convergence.frames = 4
    return config
"""


@pytest.fixture
def command(tmp_path):
    (tmp_path / "line.py").write_text(CONFIG)
    return [f"--config={tmp_path / 'line.py'}", f"--workdir={tmp_path / 'run'}"]


def test_a_run_stores_what_it_shows(program, command, tmp_path):
    ended = program(*command)
    assert ended.code == 0, ended.error
    work = tmp_path / "run"
    with np.load(work / "convergence/frames.npz") as stored:
        frames = dict(stored)
    assert list(frames["step"]) == [0, 5, 18, 40]
    for masses in (frames["data_density"], *frames["generator_density"]):
        share = masses.sum() * (frames["grid"][1] - frames["grid"][0])
        np.testing.assert_allclose(share, 1, atol=1e-3)
    summary = json.loads((work / "convergence.json").read_text())
    last = np.abs(frames["discriminator"][-1] - 0.5)[frames["support"]].max()
    np.testing.assert_allclose(summary["discriminator_distance"], last)
    difference = frames["generator_density"][-1] - frames["data_density"]
    width = frames["grid"][1] - frames["grid"][0]
    np.testing.assert_allclose(
        summary["total_variation"], 0.5 * np.abs(difference).sum() * width, atol=2e-3
    )
    table = pd.read_csv(work / "report/table.csv")
    np.testing.assert_allclose(table["step 40"][0], summary["total_variation"])
    with PIL.Image.open(work / "report/figures/convergence.gif") as animation:
        assert animation.n_frames == 4
    page = (work / "report/report.html").read_text()
    assert "data:image/gif" in page and "Invert and Classify replaces" not in page
    before = (work / "convergence.json").read_bytes()
    assert program(*command).code == 0
    assert (work / "convergence.json").read_bytes() == before


REFUSED = {
    "a generator of images": ("generator", "dcgan_generator", "generator"),
    "a normal latent": ("generator", "vae_decoder(latent_size=1)", "uniform latent"),
    "two latents": ("generator", "mlp_generator(latent_size=2)", "one uniform latent"),
    "a critic's loss": ("training", "gan(loss='wgan_gp')", "minimax or non_saturating"),
    "a discriminator of images": ("training", "gan", "dcgan_discriminator"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_do_not_fit_are_refused(name, program, command):
    key, text, words = REFUSED[name]
    ended = program(*command, f"--config.convergence.{key}={text}")
    assert ended.code == 2 and ended.error.count("robust_manifold:") == 1
    assert words in ended.error and "Traceback" not in ended.error
