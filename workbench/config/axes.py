"""Axes: the things that can be chosen one by one, and the values each has.

A value is a frozen dataclass. Its docstring's first line says what it does, its fields are what can be set on it.
An axis lists only values that an engine of this version honours.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Literal

from workbench.config.fields import build, plain, read_field, settle
from workbench.errors import UsageError, nearest, short
from workbench.units import LARGEST, number_of, parse_bytes

MOST_SEQUENCES = 1 << 20
BUDGETS = f"give up to {LARGEST} bytes or tokens, or a share above 0% and up to 100%"


@dataclass(frozen=True)
class Stock:
    """The engine as it comes."""

    name: ClassVar[str] = "stock"


@dataclass(frozen=True)
class NcclLazy:
    """NCCL, which connects, and takes its memory, at the first collective."""

    name: ClassVar[str] = "nccl-lazy"


@dataclass(frozen=True)
class NcclEager:
    """NCCL that is told its GPU: this group, and every later one, connects when it is made."""

    name: ClassVar[str] = "nccl-eager"


@dataclass(frozen=True)
class Gloo:
    """Gloo, over the host: it takes nothing of a GPU."""

    name: ClassVar[str] = "gloo"


@dataclass(frozen=True)
class Parallel:
    """Over how many ranks the model is split, each a process and, where there are GPUs, a GPU of its own."""

    name: ClassVar[str] = "parallel"
    tensor: int = 1  # ranks that share every layer

    def __post_init__(self) -> None:
        """Refuses what is no number of ranks."""
        settle(self, self.name)
        if self.tensor < 1:
            raise UsageError(f"parallel.tensor must be at least 1, not {self.tensor}")


@dataclass(frozen=True)
class NoGraphs:
    """Every step is launched kernel by kernel."""

    name: ClassVar[str] = "none"


@dataclass(frozen=True)
class PiecewiseGraphs:
    """What lies between attentions is replayed from graphs, a piece a layer."""

    name: ClassVar[str] = "piecewise"


@dataclass(frozen=True)
class FullGraphs:
    """A decode step is replayed whole, from one graph a batch size."""

    name: ClassVar[str] = "full"


@dataclass(frozen=True)
class KvBudget:
    """How much the KV cache may take: `2GiB`, `4096 tokens`, or `90%` of the device's memory."""

    amount: int | float  # in percent where it is a share, else whole
    unit: Literal["bytes", "share", "tokens"]

    def __post_init__(self) -> None:
        """Refuses what is no amount of memory."""
        settle(self, "kv_budget")
        is_share = self.unit == "share"
        if not is_share and not isinstance(self.amount, int):
            raise UsageError(f"kv_budget.amount is a whole number of {self.unit}, not {short(self.amount)}")
        if not 0 < self.amount <= (100 if is_share else LARGEST):
            raise UsageError(f"a KV budget can not be {self}: {BUDGETS}")

    def __str__(self) -> str:
        """Gives the text that is read back to an equal budget."""
        if self.unit == "share":
            return f"{Decimal(str(self.amount)):f}%"  # never as a power of ten
        return f"{self.amount} {'B' if self.unit == 'bytes' else self.unit}"

    @classmethod
    def parse(cls, text: str) -> KvBudget:
        """Gives the budget that a text such as `2GiB`, `90%` or `4096 tokens` stands for."""
        share = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text, re.ASCII)
        tokens = re.fullmatch(r"\s*(\d+)\s*tokens\s*", text, re.ASCII)
        size = None if share or tokens else parse_bytes(text)
        try:
            if share:
                return cls(float(share[1]), "share")
            return cls(number_of(tokens[1]), "tokens") if tokens else cls(size or 0, "bytes")
        except UsageError:
            raise UsageError(f"a KV budget can not be {short(text)}: {BUDGETS}") from None


class _BudgetForm:
    """A KV budget is written as text everywhere."""

    def read(self, given: object, where: str) -> KvBudget | None:
        if given in (None, "none"):
            return None
        if not isinstance(given, str):
            raise UsageError(f"{where} is a text such as '2GiB', '90%' or '4096 tokens', not {short(given)}")
        return KvBudget.parse(given)

    def write(self, budget: KvBudget | None) -> object:
        return None if budget is None else str(budget)


@dataclass(frozen=True)
class Limits:
    """How much the engine may take on at once."""

    name: ClassVar[str] = "limits"
    max_sequences: int = 8  # requests in one forward pass
    max_batched_tokens: int | None = None  # in one forward pass; none: 2048
    max_length: int | None = None  # tokens of a prompt and its answer together; none: what the model was made for
    # Of the KV cache of each rank; none: room for max_sequences requests of max_length, as far as there is memory.
    kv_budget: KvBudget | None = dataclasses.field(default=None, metadata={"form": _BudgetForm()})

    def __post_init__(self) -> None:
        """Refuses limits under which nothing could run."""
        settle(self, self.name)
        if not 1 <= self.max_sequences <= MOST_SEQUENCES:
            raise UsageError(f"limits.max_sequences must be 1 to {MOST_SEQUENCES}, not {self.max_sequences}")
        if self.max_batched_tokens is not None and self.max_batched_tokens < self.max_sequences:
            raise UsageError(
                f"limits.max_batched_tokens must be at least limits.max_sequences ({self.max_sequences}), "
                f"not {self.max_batched_tokens}"
            )
        if self.max_length is not None and self.max_length < 2:
            raise UsageError(f"limits.max_length must be at least 2 (a prompt and an answer), not {self.max_length}")


@dataclass(frozen=True)
class Axis:
    """One thing that can be chosen: its name, the question it puts, and the values it can have."""

    name: str
    question: str
    values: tuple[type[Any], ...]  # the first is what holds when nothing is said

    def read(self, given: object, where: str) -> Any:
        """Gives a value of this axis from its name, or from a mapping of its fields (and `value`, its name)."""
        if isinstance(given, str):
            return self._value(given)()
        if not isinstance(given, Mapping):
            raise UsageError(f"{where} is a name or a mapping, not {short(given)}")
        fields = dict(given)
        return build(self._value(fields.pop("value", self.values[0].name)), fields, where)

    def write(self, value: Any) -> object:
        """Gives a value as plain data that `read` reads back to an equal one."""
        if not dataclasses.fields(value):
            return value.name
        return plain(value) if isinstance(value, self.values[0]) else {"value": value.name, **plain(value)}

    def with_field(self, value: Any, field: str, given: object) -> Any:
        """Gives a copy of a value with one of its fields set."""
        known = [known.name for known in dataclasses.fields(value)]
        if field not in known:
            what = f"{value.name!r} of axis {self.name!r} has no {short(field)} to set"
            raise UsageError(f"{what}: {nearest(field, known)}")
        return dataclasses.replace(value, **{field: read_field(type(value), field, given, self.name)})

    def _value(self, name: object) -> type[Any]:
        for value in self.values:
            if value.name == name:
                return value
        fields = [f"{self.name}.{field.name}" for field in dataclasses.fields(self.values[0])]
        if fields and len(self.values) == 1:
            raise UsageError(f"axis {self.name!r} has no value {short(name)}: set one of {', '.join(fields)}")
        known = [value.name for value in self.values]
        raise UsageError(f"axis {self.name!r} has no value {short(name)}: {nearest(name, known)}")
