"""What can go wrong with a person's input, said in one line."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TypeVar

Row = TypeVar("Row")


class InputError(ValueError):
    """A person's input is wrong: the message is one line that names the input and says what would be right."""


class Unsupported(InputError):  # noqa: N818  (an answer, not a fault)
    """The input is well formed but outside what backproof knows: the message names the part it cannot treat."""


def lookup(table: Mapping[str, Row], name: str, kind: str) -> Row:
    """Return ``table[name]``, or raise :class:`InputError` with the nearest names.

    >>> lookup({"relu": 1}, "rleu", "activation")
    Traceback (most recent call last):
    backproof.theory.errors.InputError: unknown activation 'rleu': did you mean 'relu'?
    """
    key = name.strip().lower().replace("-", "_")
    if key in table:
        return table[key]
    near = difflib.get_close_matches(key, table, n=3)
    hint = "did you mean " + " or ".join(f"'{n}'" for n in near) + "?" if near else "known: " + ", ".join(table)
    raise InputError(f"unknown {kind} {name[:60]!r}: {hint}")
