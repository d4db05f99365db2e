"""An experiment from start to end: its stages in order, none of them twice."""

import pathlib
import signal
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from robust_manifold import findings, models
from robust_manifold.config import FREE, Experiment, defaults_beside
from robust_manifold.core.errors import UsageError
from robust_manifold.findings import report
from robust_manifold.runtime import (
    Diverged,
    GracefulStop,
    Heartbeat,
    Interrupted,
    Journal,
    MetricsWriter,
    RunFolder,
    console,
    devices,
    storage,
)
from robust_manifold.runtime.progress import duration
from robust_manifold.stages import RUNS, Context, checks
from robust_manifold.stages.networks import trained

ALWAYS = ("report",)
"""Stages that run again although they have finished: cheap, and wanted fresh."""

DIVERGED = 3
"""Exit code of a run whose training diverged."""


def run(
    experiment: Experiment,
    config: dict[str, Any],
    workdir: pathlib.Path,
    stages: Sequence[str],
    swept: Sequence[str] = (),
    *,
    command: Sequence[str],
) -> int:
    """Runs the stages that have not finished, and returns the exit code.

    Args:
      experiment: what to do.
      config: the same as plain values, to be stored.
      workdir: the run folder, made or resumed.
      stages: names of stages, in their order.
      swept: keys of the config that its sweep changes, to be stored.
      command: the command line, to be stored.

    Raises:
      UsageError: if the folder, the data or the config make the run impossible, or
        the file system refuses to write or to read.
    """
    # Before JAX looks for devices, which it tells at length.
    console.setup()
    with GracefulStop() as stop:
        devices.initialise()
        console.setup(primary=devices.is_primary())
        try:
            return _run(experiment, config, workdir, stages, swept, command, stop)
        except Exception as error:
            mistake = isinstance(error, UsageError)
            devices.abandon(" ".join(str(error).split()), 2 if mistake else 1)
            raise


def _run(
    experiment: Experiment,
    config: dict[str, Any],
    workdir: pathlib.Path,
    stages: Sequence[str],
    swept: Sequence[str],
    command: Sequence[str],
    stop: GracefulStop,
) -> int:
    primary = devices.is_primary()
    try:
        with (
            RunFolder.open(
                workdir,
                config,
                command=command,
                primary=primary,
                free=FREE,
                defaults=defaults_beside(config),
            ) as folder,
            MetricsWriter(
                workdir / "metrics.jsonl",
                tensorboard=experiment.training.tensorboard,
                primary=primary,
                entered=folder,
            ) as metrics,
        ):
            folder.adopt(findings.adopted)
            told = {"swept": [*swept]} if swept else {}
            folder.set_status("running", stages=findings.stages_of(experiment), **told)
            context = Context(experiment, folder, metrics, stop)
            checks.check(context, [findings.parent_of(stage) for stage in stages])
            _describe(context)
            for stage in stages:
                _run_stage(context, stage)
                if stop.requested:
                    raise Interrupted(f"stopped after {stage}")
    except Diverged as error:
        console.error(str(error))
        return DIVERGED
    except Interrupted as error:
        console.warning(f"{error}; the same command goes on from there.")
        # Another process of the job may have got the signal.
        return 128 + (stop.signal or signal.SIGTERM)
    except OSError as error:
        raise storage.refused(error, workdir) from error
    return 0


def _run_stage(context: Context, stage: str) -> None:
    folder = context.folder
    if folder.stage_done(stage) and stage not in ALWAYS:
        console.info(f"{stage}  finished before")
        return
    followers = [finding.name for finding in findings.EVERY if finding.after == stage]
    folder.begin_stage(stage, anew=stage in ALWAYS, followers=followers)
    start = time.monotonic()
    try:
        with Heartbeat(stage), Journal(folder, stage, context.stop):
            outputs = _computing(stage)(context)
    finally:
        folder.add_seconds(stage, time.monotonic() - start)
    # First what the stage logged: of a finished one all lines stay as they are.
    context.metrics.enter()
    folder.finish_stage(stage, outputs)
    console.info(f"{stage}  finished in {duration(time.monotonic() - start)}")


def _computing(stage: str) -> Callable[[Context], Sequence[str]]:
    """Returns what computes a stage."""
    if stage in RUNS:
        return RUNS[stage]
    every = {f.name: f.find for f in findings.EVERY if f.find}
    return {**every, "report": report.run}[stage]


def _describe(context: Context) -> None:
    """Prints what the run consists of: devices, images, networks and their sizes."""
    device = devices.describe()
    console.info(
        f"devices  {device['devices']} x {device['kind']}, "
        f"{device['processes']} process(es)"
    )
    if not context.networks.roles:
        return
    dataset = context.data.dataset
    console.info(
        f"data  {dataset.name}: {dataset.train.size} train, {dataset.validation.size} "
        f"validation, {dataset.test.size} test images "
        f"{'x'.join(map(str, dataset.image_shape))}, "
        + (
            f"{dataset.outputs} number(s) to tell"
            if dataset.outputs
            else f"{len(dataset.class_names)} classes"
        )
    )
    described: dict[str, models.Model] = {}
    for name in context.networks.roles:
        described[name] = context.networks.model_of(name)
        if name == "generator":
            partner = context.experiment.generator.training.role
            described[partner] = context.networks.partner
    for role, model in described.items():
        params = jax.eval_shape(model.init, jax.random.key(0))
        count = models.count_parameters(params)
        text = trained.model_text(context, role)
        console.info(f"{role}  {text}: {count:,} parameters")
