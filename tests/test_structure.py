"""The one principle, checked: imports run one way, start quickly, and each module is loaded once."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(importlib.util.find_spec("backproof").origin).parent
MODULES = sorted(p for room in ("theory", "numerics", "demos") for p in (PACKAGE / room).rglob("*.py"))
MAY_IMPORT = {"theory": {"theory"}, "numerics": {"theory", "numerics"}, "demos": {"theory", "numerics", "demos"}}
HEAVY = ("numpy", "numba", "matplotlib", "scipy", "sklearn", "rich", "torch", "jax", "pandas")


def run_python(code):
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, timeout=120, cwd="/",
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


def imported_rooms(path):
    """The rooms that a module's relative imports lead to, inside functions too."""
    package = ["backproof", *path.relative_to(PACKAGE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            target = [*base, *(node.module or "").split(".")] if node.module else [*base, node.names[0].name]
            if len(target) > 1:
                yield target[1], node.lineno


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    room = path.relative_to(PACKAGE).parts[0]
    for target, line in imported_rooms(path):
        if target in MAY_IMPORT:
            assert target in MAY_IMPORT[room], f"{path.name}:{line}: {room} may not import {target}"


@pytest.mark.parametrize("path", [p for p in MODULES if "theory" in p.parts], ids=lambda p: p.name)
def test_theory_never_imports_the_numeric_packages(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        assert not {n.split(".")[0] for n in names} & set(HEAVY), f"{path.name}:{node.lineno}"


def test_importing_the_theory_loads_no_heavy_package():
    code = "import sys, json, backproof.theory as t; t.activation; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(run_python(code)))
    assert "sympy" in loaded
    assert not loaded & set(HEAVY)


def test_help_loads_neither_sympy_nor_any_heavy_package():
    code = (
        "import sys, json; from backproof.demos.cli import run; assert run(['--help']) == 0; "
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = set(json.loads(run_python(code).splitlines()[-1]))
    assert not loaded & {"sympy", *HEAVY}


def test_public_names_can_all_be_had():
    code = (
        "import backproof, backproof.theory, backproof.numerics\n"
        "for room in (backproof, backproof.theory, backproof.numerics):\n"
        "    for name in room.__all__: assert getattr(room, name) is not None, name"
    )
    run_python(code)


def test_each_module_is_loaded_once():
    """Every file of the package is behind at most one entry of sys.modules, whatever the current folder."""
    code = (
        f"import sys; sys.path.insert(0, {str(PACKAGE)!r})\n"
        "import backproof, json\n"
        "from backproof.theory.activations import ACTIVATIONS\n"
        "from backproof.demos import cli\n"
        "print(json.dumps([[n, m.__file__] for n, m in sys.modules.items() if getattr(m, '__file__', None)]))"
    )
    ours = [file for _, file in json.loads(run_python(code)) if file.startswith(str(PACKAGE) + os.sep)]
    assert len(ours) == len(set(ours))
    in_this_process = [m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)]
    for file in map(str, MODULES):
        assert in_this_process.count(file) <= 1, file


def test_the_wheel_lists_every_folder_with_modules():
    import tomllib

    pyproject = Path(__file__).parents[1] / "pyproject.toml"
    listed = set(tomllib.loads(pyproject.read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"])
    folders = {".".join(["backproof", *p.relative_to(PACKAGE).parent.parts]) for p in MODULES}
    assert folders <= listed
