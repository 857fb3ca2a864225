"""Validators that say what they allow, so that a schema can say it too; what is outside is an InputError."""

from __future__ import annotations

from typing import Any

import attrs

from ..errors import InputError

__all__ = ["USER", "Between", "Length", "about"]


@attrs.frozen
class Length:
    """So many characters."""

    least: int
    most: int

    def __call__(self, _: object, field: attrs.Attribute[str], value: str) -> None:
        if not self.least <= len(value) <= self.most:
            needed = f"{self.least} to {self.most} are needed" if self.least else f"at most {self.most} are taken"
            raise InputError(field.name, f"{len(value)} characters were given, but {needed}")


@attrs.frozen
class Between:
    """A number from `least` to `most`, themselves among them."""

    least: float
    most: float

    def __call__(self, _: object, field: attrs.Attribute[Any], value: float) -> None:
        if not self.least <= value <= self.most:
            raise InputError(field.name, f"{value} was given, but {self.least} to {self.most} is needed")


# A user's name, wherever it stands.
USER = Length(1, 256)


def about(description: str) -> dict[str, str]:
    """A field's metadata: what a schema says of it."""
    return {"description": description}
