"""One folder of compiled kernels for all workers, new in each run: what one test compiled, the others load."""

import os

import pytest


@pytest.fixture(autouse=True, scope="session")
def _kernels(tmp_path_factory):
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "kernels"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BACKPROOF_CACHE", str(folder))
        yield
