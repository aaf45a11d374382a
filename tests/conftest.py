"""What tests of many files share."""

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def _kernels(tmp_path_factory):
    """One folder of compiled kernels for all workers, new in each run: what one test compiled, the others load."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "kernels"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACKPROOF_CACHE", str(folder))
        yield


@pytest.fixture
def unexplained(monkeypatch):
    """A check looks no further for the cause of a mistake: seconds, where the question is whether it is found."""
    for module in ("repairs", "diagnosis"):
        monkeypatch.setattr(f"backproof.numerics.{module}.BUDGET", 0.0)
