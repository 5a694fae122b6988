"""What a check found: facts to read, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Report:
    """Collects facts in the order they are found, and everything that is wrong."""

    facts: list[tuple[str, str, str]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def fact(self, subject: str, name: str, value: object) -> None:
        """Something to know."""
        self.facts.append((subject, name, str(value)))

    def expect(self, subject: str, name: str, value: object, wanted: object) -> None:
        """Something to know that has one right value."""
        self.fact(subject, name, value)
        self.claim(value == wanted, f"{subject}: {name} is {value}, not {wanted}")

    def claim(self, holds: bool, otherwise: str) -> None:
        """Something that must hold; `otherwise` says what is wrong when it does not."""
        if not holds:
            self.wrong.append(otherwise)
