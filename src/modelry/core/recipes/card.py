"""What a recipe tells the world before any training library is loaded: its name, parameters and their bounds.

The network itself is built by the function that `RecipeCard.implementation` names; only workers import it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from modelry.core.errors import InvalidParameter, UnknownParameter


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One bounded parameter; values of other types are refused, texts from a command line are read."""

    name: str
    #: `int`, `float`, `bool`, `str` or `ints` (a list of whole numbers).
    type: str
    default: Any
    #: One sentence for `--help` and the reference.
    help: str
    minimum: float | None = None
    maximum: float | None = None
    #: For `str`: the only values; for numbers: words allowed besides (`full`).
    choices: tuple[str, ...] = ()
    #: For `ints`: how many at least and at most.
    length: tuple[int, int] = (1, 8)
    #: Whether None (not given) is a value of its own.
    optional: bool = False
    #: Kinds of data (`text`, `table`) or goals (`classification`) for which it means something; empty: all.
    only_for: tuple[str, ...] = ()
    #: Whether it decides what layers there are: a training that starts from another model's weights must have the same.
    is_structural: bool = False

    @property
    def expected(self) -> str:
        """The allowed values, for people."""
        bounds = ""
        if self.minimum is not None or self.maximum is not None:
            low = "" if self.minimum is None else f"from {self.minimum:g} "
            high = "" if self.maximum is None else f"to {self.maximum:g}"
            bounds = f" {low}{high}".rstrip()
        words = " or ".join(f"'{choice}'" for choice in self.choices)
        if self.type == "str":
            return f"one of {words}" if self.choices else "a text"
        nouns = {
            "int": "a whole number",
            "float": "a number",
            "bool": "true or false",
            "ints": f"{self.length[0]} to {self.length[1]} whole numbers such as 32,64, each",
        }
        return nouns[self.type] + bounds + (f", or {words}" if words else "")

    def check(self, value: Any) -> Any:
        """The value in its proper type; raises `InvalidParameter`."""
        try:
            return self._read(value)
        except (TypeError, ValueError, OverflowError):
            raise InvalidParameter(name=self.name, value=value, expected=self.expected) from None

    def _read(self, value: Any) -> Any:
        if value is None or (self.optional and value in ("none", "None")):
            if self.optional:
                return None
            raise ValueError
        if self.type == "str":
            return self._read_word(value)
        if isinstance(value, str) and value in self.choices:
            return value
        if self.type == "bool":
            return _read_bool(value)
        if self.type == "ints":
            parts = value.split(",") if isinstance(value, str) else value
            if isinstance(parts, int | float):
                parts = [parts]
            numbers = [self._in_bounds(_read_int(part)) for part in parts]
            if not self.length[0] <= len(numbers) <= self.length[1]:
                raise ValueError
            return numbers
        number = _read_int(value) if self.type == "int" else _read_float(value)
        return self._in_bounds(number)

    def _read_word(self, value: Any) -> str:
        if not isinstance(value, str) or (self.choices and value not in self.choices):
            raise ValueError
        return value

    def _in_bounds(self, number: float) -> float:
        if self.minimum is not None and not number >= self.minimum:
            raise ValueError
        if self.maximum is not None and not number <= self.maximum:
            raise ValueError
        return number


def _read_int(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError
    return int(value)


def _read_float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    if number != number:
        raise ValueError
    return number


def _read_bool(value: Any) -> bool:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeCard:
    """A trainable family: what it is called, what it learns from, what can be set."""

    name: str
    #: One sentence.
    summary: str
    #: `image-classification`, `sequence-classification`.
    task: str
    #: Feature kinds of the input it can learn from: `image`, `tensor`, `sequence`, `audio`, `text`, `number`,
    #: `category`.
    takes: tuple[str, ...]
    #: What it can predict: labels (`classification`), numbers (`regression`), the next numbers of a series
    #: (`forecasting`).
    goals: tuple[Literal["classification", "regression", "forecasting"], ...] = ("classification",)
    #: Other defaults for a kind of data: kind (`text`) → values.
    defaults_for: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: `package.module:function`, imported by workers only.
    implementation: str
    #: The network's own parameters; the training parameters are added to them.
    params: tuple[Param, ...]
    #: Named settings: preset → values.
    presets: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: What must hold between parameters; each raises `InvalidParameter`.
    rules: tuple[Callable[[dict[str, Any]], None], ...] = ()

    def param(self, name: str) -> Param:
        """The parameter of this name; raises `UnknownParameter`."""
        for param in self.params:
            if param.name == name:
                return param
        known = ", ".join(param.name for param in self.params)
        raise UnknownParameter(owner=f"The recipe '{self.name}'", name=name, known=known)

    @property
    def structure(self) -> list[str]:
        """The parameters that decide what layers there are."""
        return [param.name for param in self.params if param.is_structural]

    def check(self, given: dict[str, Any]) -> dict[str, Any]:
        """All parameters with defaults filled in; raises for unknown names and values out of bounds."""
        checked = {name: self.param(name).check(value) for name, value in given.items()}
        complete = {param.name: checked.get(param.name, param.default) for param in self.params}
        for rule in self.rules:
            rule(complete)
        return complete
