"""The notebooks are stored as they ran, and they run."""

import json
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_is_one_run_from_top_to_bottom(path):
    cells = [c for c in json.loads(path.read_text())["cells"] if "outputs" in c]
    assert [cell["execution_count"] for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    for output in outputs:
        assert output["output_type"] != "error" and output.get("name") != "stderr"


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path):
    for package in ("nbclient", "ipykernel", "mlxtend"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    import nbclient
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    # A cell that fails is raised here, with what it printed.
    client = nbclient.NotebookClient(notebook, timeout=1200, kernel_name="python3")
    client.execute(cwd=str(FOLDER))
