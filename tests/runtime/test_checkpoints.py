import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import types
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from robust_manifold.core.errors import UsageError
from robust_manifold.runtime import checkpoints as checkpoints_module
from robust_manifold.runtime.artefacts import DamagedArtefact
from robust_manifold.runtime.checkpoints import (
    Checkpoints,
    load_params,
    read_params_metadata,
    save_params,
)
from tests.support import environment_of


class State(NamedTuple):
    params: dict
    optimizer: tuple
    step: jax.Array


def make_state(step=0, latent=8):
    rng = np.random.default_rng(step)
    kernel = jnp.asarray(rng.normal(size=(latent, 16)), jnp.float32)
    params = {"dense": {"kernel": kernel, "bias": jnp.zeros(16, jnp.bfloat16)}}
    return State(params, optax.adam(1e-3).init(params), jnp.int32(step))


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def steps(folder):
    return sorted(int(path.name) for path in folder.iterdir())


def test_round_trip(tmp_path):
    checkpoints = Checkpoints(tmp_path / "generator")
    assert checkpoints.restore(make_state()) is None
    assert checkpoints.last is None
    checkpoints.save(7, make_state(7), {"loss": 0.5})
    again = Checkpoints(tmp_path / "generator")
    step, state = again.restore(make_state())
    assert step == 7
    assert_same(state, make_state(7))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(state))
    assert again.last == (7, {"loss": 0.5})


def test_a_shape_is_template_enough(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, make_state(7))
    assert_same(checkpoints.restore(jax.eval_shape(make_state)).state, make_state(7))


def test_plain_scalars_are_arrays_too(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"count": 3, "rate": np.float32(0.5), "none": None})
    state = checkpoints.restore({"count": 0, "rate": np.float32(0), "none": None}).state
    assert state["count"] == 3 and state["rate"] == 0.5 and state["none"] is None


def test_the_restored_state_can_be_donated_and_mixed(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, make_state(7))
    state = checkpoints.restore(make_state()).state
    doubled = jax.jit(lambda s: jax.tree.map(lambda x: x + x, s), donate_argnums=0)
    assert_same(doubled(state), jax.tree.map(lambda x: x + x, make_state(7)))


def test_the_last_ones_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (10, 20, 30):
        checkpoints.save(step, make_state(step))
    assert steps(tmp_path / "last") == [20, 30]
    more = Checkpoints(tmp_path, keep=4)
    more.save(40, make_state(40))
    assert steps(tmp_path / "last") == [20, 30, 40]
    with pytest.raises(UsageError, match="keep is 0; allowed"):
        Checkpoints(tmp_path, keep=0)


def test_a_step_can_be_saved_again(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(10, make_state(1))
    checkpoints.save(10, make_state(2))
    assert_same(checkpoints.restore(make_state()).state, make_state(2))


def test_saving_an_earlier_step_undoes_the_later_ones(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=3)
    for step in (10, 20, 30, 15):
        checkpoints.save(step, make_state(step))
    assert steps(tmp_path / "last") == [10, 15]
    assert checkpoints.restore(make_state()).step == 15


@pytest.mark.parametrize(
    ("mode", "values", "best"),
    [
        ("max", [0.5, 0.9, 0.9, 0.7], 2),
        ("min", [0.5, 0.9, 0.3, 0.7], 3),
        ("max", [float("nan"), 0.1, float("nan"), 0.05], 2),
    ],
)
def test_the_best_is_kept_apart(tmp_path, mode, values, best):
    for step, value in enumerate(values, start=1):
        # A new object each time: what is best must not be forgotten by a restart.
        checkpoints = Checkpoints(tmp_path, best="score", mode=mode)
        checkpoints.save(step, make_state(step), {"score": jnp.float32(value)})
    checkpoints.save(5, make_state(5))
    assert checkpoints.best.step == best
    assert steps(tmp_path / "best") == [best]
    restored = checkpoints.restore_best(make_state())
    assert restored.step == best
    assert_same(restored.state, make_state(best))
    assert checkpoints.restore(make_state()).step == 5


@pytest.mark.parametrize(
    ("like", "message"),
    [
        (
            make_state(latent=4),
            r"last/7 does not fit the model: params/dense/kernel is float32 of shape "
            r"\(8, 16\) there, and float32 of shape \(4, 16\) by the config",
        ),
        (
            make_state()._replace(step=jnp.float32(0)),
            r"step is int32 of shape \(\) there, and float32 of shape \(\) by",
        ),
        (
            make_state()._replace(optimizer=()),
            r"optimizer/0/count is int32 of shape \(\) there, and absent by",
        ),
        (
            make_state()._replace(params={"x": jnp.zeros(1)}),
            r"params/x is absent there, and float32 of shape \(1,\) by",
        ),
    ],
)
def test_another_model_is_refused_by_its_first_leaf(tmp_path, like, message):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, make_state(7))
    with pytest.raises(UsageError, match=message):
        checkpoints.restore(like)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_any_flipped_byte_and_any_missing_file_is_named(tmp_path):
    original = tmp_path / "original"
    first = Checkpoints(original)
    first.save(3, make_state(3))
    first.save(7, make_state(7))
    step_folder = original / "last" / "7"
    relative = [path.relative_to(original) for path in files_of(step_folder)]
    assert len(relative) > 5
    for number, name in enumerate(relative):
        copy = tmp_path / str(number)
        shutil.copytree(original, copy)
        checkpoints = Checkpoints(copy)
        path = copy / name
        data = bytearray(path.read_bytes())
        if data:
            data[len(data) // 2] ^= 4
            path.write_bytes(data)
            with pytest.raises(DamagedArtefact, match=f"{path} is damaged .*: delete "):
                checkpoints.restore(make_state())
        path.unlink()
        if path.name == "manifest.json":
            # Without it the checkpoint counts as not written.
            assert checkpoints.restore(make_state()).step == 3
            continue
        with pytest.raises(DamagedArtefact, match=f"{path} is damaged .No such file"):
            checkpoints.restore(make_state())
        with pytest.raises(
            DamagedArtefact, match="last/7 and run again to go on from "
        ):
            checkpoints.restore(make_state())
        # The remedy works.
        shutil.rmtree(copy / "last" / "7")
        assert_same(Checkpoints(copy).restore(make_state()).state, make_state(3))


def test_a_metric_changed_by_hand_is_damage(tmp_path):
    checkpoints = Checkpoints(tmp_path, best="score")
    checkpoints.save(1, make_state(1), {"score": 0.25})
    manifest = tmp_path / "best" / "1" / "manifest.json"
    manifest.write_text(manifest.read_text().replace("0.25", "0.95"))
    with pytest.raises(DamagedArtefact, match=r"manifest\.json is damaged"):
        checkpoints.save(2, make_state(2), {"score": 0.5})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"content": {}}'])
def test_a_damaged_manifest_is_named(tmp_path, text):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(1))
    (tmp_path / "last" / "1" / "manifest.json").write_text(text)
    message = r"last/1/manifest\.json is damaged .*: delete .* to compute it anew"
    with pytest.raises(DamagedArtefact, match=message):
        checkpoints.restore(make_state())


def test_what_a_killed_process_left_is_removed(tmp_path):
    Checkpoints(tmp_path).save(7, make_state(7))
    last = tmp_path / "last"
    shutil.copytree(last / "7", last / "9")
    (last / "9" / "manifest.json").unlink()
    (last / "8.orbax-checkpoint-tmp-3").mkdir()
    (last / "notes").mkdir()
    checkpoints = Checkpoints(tmp_path)
    assert sorted(path.name for path in last.iterdir()) == ["7", "notes"]
    assert checkpoints.restore(make_state()).step == 7
    checkpoints.save(9, make_state(9))
    assert_same(checkpoints.restore(make_state()).state, make_state(9))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("number", range(8))
def test_a_kill_between_any_two_steps_loses_nothing(tmp_path, monkeypatch, number):
    checkpoints = Checkpoints(tmp_path, keep=1, best="score")
    checkpoints.save(10, make_state(10), {"score": 0.5})
    count = iter(range(100))

    def wrap(target, name):
        module = sys.modules[target]
        original = getattr(module, name)

        def call(*args, **kwargs):
            if next(count) == number:
                raise Killed
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, call)

    with monkeypatch.context() as patch:
        wrap("robust_manifold.runtime.checkpoints", "hash_tree")
        wrap("robust_manifold.runtime.checkpoints", "write_atomically")
        wrap("shutil", "rmtree")
        with pytest.raises(Killed):
            checkpoints.save(20, make_state(20), {"score": 0.7})
            raise Killed
        patch.undo()
    monkeypatch.undo()
    again = Checkpoints(tmp_path, keep=1, best="score")
    step, state = again.restore(make_state())
    assert_same(state, make_state(step))
    best = again.restore_best(make_state())
    assert_same(best.state, make_state(best.step))
    # Never a last checkpoint without the best one that belongs to it.
    assert best.step >= step
    # The interrupted step is run again.
    again.save(20, make_state(20), {"score": 0.7})
    assert (again.last.step, again.best.step) == (20, 20)
    assert steps(tmp_path / "last") == steps(tmp_path / "best") == [20]


@pytest.mark.slow
def test_killed_at_random_moments_a_whole_checkpoint_remains(tmp_path):
    # The alarm has no handler, so it kills at once wherever it falls.
    code = """
import signal, sys
import numpy as np
from robust_manifold.runtime.checkpoints import Checkpoints
checkpoints = Checkpoints(sys.argv[1], best="score")
like = {"a": np.zeros(50_000), "b": np.zeros((10, 10))}
restored = checkpoints.restore(like)
step = restored.step if restored else 0
signal.setitimer(signal.ITIMER_REAL, float(sys.argv[2]))
while True:
    step += 1
    state = {"a": np.full(50_000, step), "b": np.full((10, 10), -step)}
    state = {name: leaf.astype(float) for name, leaf in state.items()}
    checkpoints.save(step, state, {"score": step})
"""
    like = {"a": np.zeros(50_000), "b": np.zeros((10, 10))}
    reached = 0
    for delay in np.random.default_rng(1).uniform(0.2, 0.6, size=4):
        command = [sys.executable, "-c", code, str(tmp_path), str(delay)]
        done = subprocess.run(command, capture_output=True)
        assert done.returncode == -signal.SIGALRM, done.stderr.decode()
        checkpoints = Checkpoints(tmp_path, best="score")
        for restored in (checkpoints.restore(like), checkpoints.restore_best(like)):
            if restored is None:
                assert reached == 0
                continue
            step, state = restored
            assert step >= reached
            assert (state["a"] == step).all() and (state["b"] == -step).all()
        reached = checkpoints.last.step if checkpoints.last else 0


def test_nothing_is_printed(tmp_path):
    code = """
import sys
import numpy as np
from robust_manifold.runtime import Checkpoints, console
console.setup()
for _ in range(2):
    checkpoints = Checkpoints(sys.argv[1])
    for step in (1, 2, 3):
        checkpoints.save(step, {"a": np.ones(3)})
    checkpoints.restore({"a": np.zeros(3)})
"""
    command = [sys.executable, "-W", "always", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_four_devices_restore_what_one_wrote(tmp_path):
    Checkpoints(tmp_path).save(7, {"w": jnp.arange(8.0), "b": jnp.float32(2)})
    save_params(tmp_path / "params", {"w": jnp.arange(8.0)}, {})
    code = """
import sys
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from robust_manifold.runtime import Checkpoints, load_params
assert jax.device_count() == 4
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
split = NamedSharding(mesh, PartitionSpec("data"))
whole = NamedSharding(mesh, PartitionSpec())
images = jax.device_put(jnp.ones(8), split)
dot = jax.jit(lambda state, images: state["w"] @ images + state["b"])

plain = {"w": jnp.zeros(8), "b": jnp.float32(0)}
checkpoints = Checkpoints(sys.argv[1])
state = checkpoints.restore(plain).state
assert not state["w"].committed
assert float(dot(state, images)) == 30

placed = jax.device_put(plain, {"w": split, "b": whole})
state = checkpoints.restore(placed).state
assert state["w"].sharding == split and state["b"].sharding == whole
assert float(dot(state, images)) == 30
assert float(load_params(sys.argv[1] + "/params")["w"] @ images) == 28
checkpoints.save(8, state)
assert float(dot(checkpoints.restore(plain).state, images)) == 30
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, env=environment_of(devices=4), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    state = Checkpoints(tmp_path).restore({"w": jnp.zeros(8), "b": jnp.float32(0)})
    assert state.step == 8
    np.testing.assert_array_equal(state.state["w"], jnp.arange(8.0))


def test_parameters_need_no_template(tmp_path):
    params = {"params": make_state(1).params, "batch_stats": {"mean": jnp.ones(3)}}
    metadata = {"model": "dcgan_generator(width=64)", "image_shape": (28, 28, 1)}
    save_params(tmp_path / "g", params, metadata)
    loaded = load_params(tmp_path / "g")
    assert_same(loaded, params)
    stored = read_params_metadata(tmp_path / "g")
    assert stored.metadata == {**metadata, "image_shape": [28, 28, 1]}
    assert stored.shapes == {
        "batch_stats/mean": (3,),
        "params/dense/bias": (16,),
        "params/dense/kernel": (8, 16),
    }


def test_parameters_can_be_replaced(tmp_path):
    for value in (1.0, 2.0):
        save_params(tmp_path, {"a": jnp.full(2, value)}, {"value": value})
    np.testing.assert_array_equal(load_params(tmp_path)["a"], [2.0, 2.0])
    assert read_params_metadata(tmp_path).metadata == {"value": 2.0}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_without_parameters_is_named(tmp_path):
    for read in (load_params, read_params_metadata):
        with pytest.raises(UsageError, match=f"{tmp_path}/none holds no parameters"):
            read(tmp_path / "none")


def test_damaged_parameters_are_named(tmp_path):
    save_params(tmp_path, {"a": jnp.arange(1000.0)}, {})
    (largest,) = sorted(files_of(tmp_path), key=lambda path: path.stat().st_size)[-1:]
    assert largest.name != "manifest.json"
    largest.write_bytes(largest.read_bytes()[:-1])
    with pytest.raises(DamagedArtefact, match=f"{largest} is damaged .*: delete"):
        load_params(tmp_path)


@pytest.mark.parametrize("params", [{"a": [jnp.ones(1)]}, make_state(), jnp.ones(1)])
def test_parameters_are_nested_dicts(tmp_path, params):
    if isinstance(params, jax.Array):
        params = (params,)
    with pytest.raises(TypeError, match="is not in nested dicts"):
        save_params(tmp_path, params, {})


def full_disk(*_, **__):
    raise ValueError("Failed to write: No space left on device [os_error_code='28']")


def test_a_full_disk_keeps_the_older_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    Checkpoints(tmp_path).save(1, make_state(1))
    kept = files_of(tmp_path)
    for where, refuse in (
        (checkpoints_module.ocp.CheckpointManager, "save"),
        (checkpoints_module, "write_atomically"),
    ):
        with monkeypatch.context() as patch:
            error = full_disk if refuse == "save" else no_room
            patch.setattr(where, refuse, error)
            with pytest.raises(OSError) as found:
                Checkpoints(tmp_path).save(2, make_state(2))
            assert found.value.errno == errno.ENOSPC
        # What it took is room that others need.
        assert files_of(tmp_path) == kept
    assert Checkpoints(tmp_path).restore(make_state()).step == 1
    Checkpoints(tmp_path).save(2, make_state(2))
    assert_same(Checkpoints(tmp_path).restore(make_state()).state, make_state(2))


def no_room(path, data):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_what_comes_after_a_full_disk_is_not_told(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    monkeypatch.setattr(checkpoints_module.ocp.CheckpointManager, "save", full_disk)
    with pytest.raises(OSError):
        Checkpoints(tmp_path).save(1, make_state(1))
    # As threads do that orbax no longer waits for.
    for text in ("Event loop is closed", "a defect"):
        found = types.SimpleNamespace(exc_value=RuntimeError(text))
        sys.unraisablehook(found)
    assert told == [found]


def test_a_defect_is_no_full_disk(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise ValueError("a shape")

    monkeypatch.setattr(checkpoints_module.ocp.CheckpointManager, "save", fail)
    with pytest.raises(ValueError, match="a shape"):
        Checkpoints(tmp_path).save(1, make_state(1))


def test_without_its_best_a_training_begins_anew(tmp_path):
    def open_again():
        return Checkpoints(tmp_path, best="score")

    open_again().save(1, make_state(1), {"score": float("nan")})
    # There has not been any yet.
    assert open_again().restore(make_state()).step == 1
    open_again().save(2, make_state(2), {"score": 0.5})
    open_again().save(3, make_state(3))
    assert open_again().restore(make_state()).step == 3
    # As the sentence of a damaged one says.
    shutil.rmtree(tmp_path / "best" / "2")
    assert open_again().restore(make_state()) is None
    open_again().save(2, make_state(2), {"score": 0.5})
    assert open_again().restore(make_state()).step == 2


@pytest.mark.parametrize("score", [0.5, float("nan")])
def test_the_best_of_an_older_version_is_missed_too(tmp_path, score):
    checkpoints = Checkpoints(tmp_path, best="score")
    checkpoints.save(2, make_state(2), {"score": score})
    file = tmp_path / "last" / "2" / "manifest.json"
    content = json.loads(file.read_text())["content"]
    del content["best"]
    stored = {"content": content, "sha256": checkpoints_module._digest(content)}
    file.write_text(json.dumps(stored))
    shutil.rmtree(tmp_path / "best", ignore_errors=True)
    again = Checkpoints(tmp_path, best="score")
    assert (again.restore(make_state()) is None) == (score == 0.5)
