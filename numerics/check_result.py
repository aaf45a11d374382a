"""What a check says: five findings, a counterexample and a diagnosis, as text and as plain data."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .findings import Counterexample, Finding


@dataclass(frozen=True)
class CheckResult:
    """What a check found. ``str(result)`` is at most 15 lines, headline first."""

    name: str
    formula: Finding
    floats: Finding
    domain: Finding
    kinks: Finding
    contract: Finding
    gradients: Mapping[str, str] = field(default_factory=dict)
    counterexample: Counterexample | None = None
    diagnosis: tuple[str, ...] = ()

    @property
    def findings(self) -> dict[str, Finding]:
        return {n: getattr(self, n) for n in ("formula", "floats", "domain", "kinks", "contract")}

    @property
    def passed(self) -> bool:
        """True only if all five findings are ok: what is not decided does not pass."""
        return all(finding.ok for finding in self.findings.values())

    @property
    def headline(self) -> str:
        failed = [n for n, finding in self.findings.items() if finding.failed]
        if self.formula.failed:
            wrong = [n for n, verdict in self.gradients.items() if verdict.startswith("REFUTED")]
            rest = ", ".join(f"{n}: {v}" for n, v in self.gradients.items() if n not in wrong)
            return (
                f"REFUTED  {self.name}"
                + (f"  d/d{', d/d'.join(wrong)}" if wrong else "")
                + (f"  ({rest})" if rest else "")
            )
        if self.formula.ok:
            return f"{self.formula.grade}  {self.name}" + (f"  but {', '.join(failed)} failed" if failed else "")
        return f"NOT DECIDED  {self.name}" + (f"  and {', '.join(failed)} failed" if failed else "")

    def __str__(self) -> str:
        lines = [self.headline]
        lines += [f"  {line}" for text in self.diagnosis[:4] for line in _cut(text, 2)]
        if self.counterexample is not None:
            example = self.counterexample
            values = ", ".join(f"{n}={v}" for n, v in example.values.items())
            place = f"[{', '.join(map(str, example.entry))}]" if example.entry else ""
            lines += [f"  {line}" for line in _cut(f"counterexample: {values}", 2)]
            lines.append(f"  d/d{example.name}{place}: yours {example.yours}, true {example.true}")
        for name, finding in self.findings.items():
            mark = {"ok": "ok", "failed": "FAILED"}.get(finding.outcome, finding.outcome)
            lines += [
                f"  {line}"
                for line in _cut(f"{name:9}{mark}: {finding.why}", 1 + (name == "formula" or finding.failed))
            ]
        return "\n".join(lines[:15])

    def as_dict(self) -> dict[str, Any]:
        """Return the result as plain data, for JSON."""
        example = self.counterexample
        return {
            "name": self.name,
            "passed": self.passed,
            "headline": self.headline,
            "gradients": dict(self.gradients),
            "diagnosis": list(self.diagnosis),
            "findings": {
                n: {"outcome": finding.outcome, "grade": finding.grade, "why": finding.why}
                for n, finding in self.findings.items()
            },
            "counterexample": None
            if example is None
            else {
                "name": example.name,
                "entry": list(example.entry),
                "yours": example.yours,
                "true": example.true,
                "inputs": example.values,
                "reproducer": example.reproducer,
            },
        }


def _cut(text: str, count: int, width: int = 98) -> list[str]:
    lines = textwrap.wrap(text, width, subsequent_indent="    ", break_on_hyphens=False)
    return lines if len(lines) <= count else [*lines[: count - 1], lines[count - 1][: width - 1] + "…"]
