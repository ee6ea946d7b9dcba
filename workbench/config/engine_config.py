"""What is run: an engine, a model, and one value on each axis."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from workbench.config import texts
from workbench.config.axes import (
    Axis,
    FullGraphs,
    Gloo,
    Limits,
    NcclEager,
    NcclLazy,
    NoGraphs,
    Parallel,
    PiecewiseGraphs,
    Stock,
)
from workbench.config.fields import build, plain, read_field, settle
from workbench.errors import UsageError, nearest, short

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def _axis(name: str, question: str, *values: type[Any]) -> Any:
    """Declares a field of `EngineConfig` as an axis; `axes()` and everything that lists axes derives from it."""
    axis = Axis(name, question, values)
    return dataclasses.field(default=values[0](), metadata={"form": axis})


@dataclass(frozen=True)
class EngineConfig:
    """One value on each axis, plus engine and model; equal ones are equal, and can be keys."""

    engine: str = "reference"
    model: str = "smollm2"
    dtype: Dtype = "auto"  # of weights; auto: as the model was saved
    limits: Limits = _axis("limits", "How much may the engine take on at once?", Limits)
    parallel: Parallel = _axis("parallel", "Over how many ranks is the model split?", Parallel)
    process_group: Stock | NcclLazy | NcclEager | Gloo = _axis(
        "process_group", "How do the ranks of an engine reach each other?", Stock, NcclLazy, NcclEager, Gloo
    )
    weight_offload: Stock = _axis("weight_offload", "Which weights live outside the GPU, and how are they read?", Stock)
    kv_offload: Stock = _axis("kv_offload", "Where do KV blocks go that the GPU has no room for?", Stock)
    device_pool: Stock = _axis("device_pool", "Who cuts the GPU's memory into blocks?", Stock)
    graphs: Stock | NoGraphs | PiecewiseGraphs | FullGraphs = _axis(
        "graphs", "Which steps are replayed as CUDA graphs?", Stock, NoGraphs, PiecewiseGraphs, FullGraphs
    )

    def __post_init__(self) -> None:
        """Refuses what is no value of its field: what reads a config from data or settings makes values of names."""
        settle(self, "config")

    @classmethod
    def from_dict(cls, given: Mapping[str, object]) -> EngineConfig:
        """Gives the config that plain data describes; what it leaves out has its default."""
        return build(cls, given, "config")

    @classmethod
    def from_yaml(cls, text: str) -> EngineConfig:
        """Gives the config that a YAML text describes."""
        return build(cls, texts.from_yaml(text), "config")

    @classmethod
    def from_json(cls, text: str) -> EngineConfig:
        """Gives the config that a JSON text describes."""
        return build(cls, texts.from_json(text), "config")

    @classmethod
    def read(cls, path: Path) -> EngineConfig:
        """Gives the config that a file describes: JSON by its suffix, else YAML."""
        parse = cls.from_json if path.suffix == ".json" else cls.from_yaml
        try:
            return parse(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"can not read the config {path}: {error}") from error
        except UsageError as error:
            raise UsageError(f"{path}: {error}") from error

    def to_dict(self) -> dict[str, object]:
        """Gives the config as plain data, complete, that `from_dict` reads back to an equal one."""
        return plain(self)

    def to_json(self) -> str:
        """Gives the config as JSON."""
        return json.dumps(self.to_dict(), indent=2)

    def to_yaml(self) -> str:
        """Gives the config as YAML."""
        return str(yaml.safe_dump(self.to_dict(), sort_keys=False))

    def with_setting(self, name: str, given: object) -> EngineConfig:
        """Gives a copy with one thing set: `axis.field`, `axis` (to its value of that name), or `model` and such."""
        field, _, inner = name.partition(".")
        known = [field.name for field in dataclasses.fields(self)]
        if field not in known:
            raise UsageError(f"config has no {short(field)}: {nearest(field, known)}")
        if not inner:
            value = read_field(EngineConfig, field, given, "config")
        elif field not in axes():
            raise UsageError(f"{field!r} has no fields to set: set {field!r} itself")
        else:
            value = axes()[field].with_field(getattr(self, field), inner, given)
        return dataclasses.replace(self, **{field: value})


def axes() -> dict[str, Axis]:
    """Gives every axis by its name."""
    forms = (field.metadata.get("form") for field in dataclasses.fields(EngineConfig))
    return {form.name: form for form in forms if isinstance(form, Axis)}
