"""Every example in a docstring runs and prints what it shows."""

import doctest
import importlib
import importlib.util
from pathlib import Path

import pytest

PACKAGE = Path(importlib.util.find_spec("backproof").origin).parent
MODULES = sorted(
    ".".join(["backproof", *path.relative_to(PACKAGE).with_suffix("").parts])
    for room in ("theory", "numerics", "demos")
    for path in (PACKAGE / room).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    outcome = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert outcome.attempted
    assert not outcome.failed
