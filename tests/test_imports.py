"""What an import of the package's parts brings with it."""

import subprocess
import sys

CODE = """
import sys
import robust_manifold
assert "jax" not in sys.modules
import robust_manifold.attacks, robust_manifold.evaluation
heavy = {"matplotlib", "pandas", "tensorflow", "tensorflow_datasets"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_attacks_and_evaluation_need_no_pandas_pictures_or_data_sets():
    ended = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
