"""What can be chosen is read from plain data, refused by name when it does not exist, and never changes afterwards."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.config import Axis, EngineConfig, KvBudget, Limits, Parallel, Stock, Workload, axes
from workbench.errors import UsageError

budgets = st.one_of(
    st.builds(KvBudget, st.integers(1, 2**62), st.just("bytes")),
    st.builds(KvBudget, st.integers(1, 2**62), st.just("tokens")),
    st.builds(KvBudget, st.floats(0.001, 100).map(lambda share: round(share, 3)), st.just("share")),
)
limits = st.builds(
    Limits,
    max_sequences=st.integers(1, 10**6),
    max_length=st.none() | st.integers(2, 10**6),
    kv_budget=st.none() | budgets,
)
configs = st.builds(
    EngineConfig,
    engine=st.text(min_size=1),
    model=st.text(min_size=1),
    dtype=st.sampled_from(["auto", "float32", "bfloat16", "float16"]),
    limits=limits,
)


@given(configs)
def test_a_config_comes_back_equal_from_every_form(config: EngineConfig) -> None:
    for back in (
        EngineConfig.from_dict(json.loads(config.to_json())),
        EngineConfig.from_yaml(config.to_yaml()),
        EngineConfig.from_json(config.to_json()),
    ):
        assert back == config
        assert hash(back) == hash(config)


@given(configs, configs)
def test_different_configs_are_different(one: EngineConfig, other: EngineConfig) -> None:
    assert (one == other) == (one.to_dict() == other.to_dict())


def test_what_is_left_out_has_its_default() -> None:
    assert EngineConfig.from_yaml("limits: {max_length: 512}") == EngineConfig(limits=Limits(max_length=512))
    assert EngineConfig.from_yaml("graphs: stock") == EngineConfig()


def test_a_config_does_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        EngineConfig().model = "other"  # type: ignore[misc]


def test_a_file_is_read_and_named_when_it_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("modle: smollm2")
    with pytest.raises(UsageError, match=r"config\.yaml: config has no 'modle': did you mean 'model'\?"):
        EngineConfig.read(path)
    (tmp_path / "config.json").write_text("model: smollm2")
    with pytest.raises(UsageError, match=r"config\.json: not JSON"):
        EngineConfig.read(tmp_path / "config.json")
    (tmp_path / "config.json").write_text('{"limits": {"max_length": 3, "max_length": 4}}')
    with pytest.raises(UsageError, match=r"config\.json: 'max_length' is given twice"):
        EngineConfig.read(tmp_path / "config.json")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"config\.yaml"):
        EngineConfig.read(path)
    with pytest.raises(UsageError, match=r"absent\.yaml"):
        EngineConfig.read(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("graph: stock", "config has no 'graph': did you mean 'graphs'?"),
        ("graphs: stok", "axis 'graphs' has no value 'stok': did you mean 'stock'?"),
        ("graphs: 3", "config.graphs is a name or a mapping, not 3"),
        ("limits: {max_lenght: 3}", "config.limits has no 'max_lenght': did you mean 'max_length'?"),
        ("limits: {max_length: true}", "config.limits.max_length is a whole number or none, not True"),
        ("limits: {max_length: 1.5}", "config.limits.max_length is a whole number or none, not 1.5"),
        ("limits: {max_sequences: 0}", "limits.max_sequences must be 1 to 1048576, not 0"),
        ("limits: {kv_budget: 4 GBB}", "'4 GBB' is not a size"),
        ("limits: {kv_budget: 0%}", "a KV budget can not be '0%'"),
        ("limits: {kv_budget: 101%}", "a KV budget can not be '101%'"),
        ("limits: {kv_budget: 0.9}", "config.limits.kv_budget is a text such as '2GiB'"),
        ("dtype: bf16", "config.dtype can not be 'bf16': did you mean 'bfloat16'?"),
        ("model: 3", "config.model is a text, not 3"),
        ("1: 2", "config has no 1"),
        ("- model", "config is a mapping of names to values, not ['model']"),
        ("", "config is a mapping of names to values, not None"),
        ("{", "not YAML"),
        ("engine: vllm\nmodel: a\nengine: reference", "'engine' is given twice: leave one of them out"),
        ("limits: {max_length: 3, max_length: 4}", "'max_length' is given twice"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        EngineConfig.from_yaml(text)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_setting_from_the_command_line_is_read_by_its_type() -> None:
    config = EngineConfig().with_setting("limits.max_length", "512").with_setting("limits.kv_budget", "1.5GiB")
    assert config.limits == Limits(max_length=512, kv_budget=KvBudget(3 * 2**29, "bytes"))
    assert config.with_setting("limits.kv_budget", "none").limits == Limits(max_length=512)
    assert config.with_setting("dtype", "float32").dtype == "float32"
    assert config.with_setting("graphs", "stock") == config


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("limit.max_length", "3", "config has no 'limit': did you mean 'limits'?"),
        ("limits.max_lenght", "3", "'limits' of axis 'limits' has no 'max_lenght' to set: did you mean 'max_length'?"),
        ("limits.max_length", "three", "limits.max_length is a whole number or none, not 'three'"),
        (
            "limits.max_sequences",
            "1" * 5000,
            "limits.max_sequences can not be so large: a number of thousands of digits",
        ),
        ("limits.kv_budget", "1" * 5000 + " tokens", "a KV budget can not be '111"),
        ("limits.kv_budget", "1" * 5000 + " GiB", "GiB' is too large a size"),
        ("limits.max_length", "-5", "limits.max_length"),
        ("graphs.mode", "full", "'stock' of axis 'graphs' has no 'mode' to set: there are none"),
        ("limits", "1", "axis 'limits' has no value '1': set one of limits.max_sequences, limits.max_batched_tokens, "),
        ("graphs", "ful", "axis 'graphs' has no value 'ful': did you mean 'full'?"),
        ("model.name", "x", "'model' has no fields to set: set 'model' itself"),
        ("", "x", "config has no ''"),
    ],
)
def test_a_setting_that_does_not_exist_is_refused_by_name(name: str, value: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        EngineConfig().with_setting(name, value)
    assert message in str(refused.value)
    assert len(str(refused.value)) < 250


def test_every_axis_asks_one_question_and_says_what_each_value_does() -> None:
    known = ["limits", "parallel", "process_group", "weight_offload", "kv_offload", "device_pool", "graphs"]
    assert list(axes()) == known
    for name, axis in axes().items():
        assert axis.name == name
        assert axis.question.endswith("?")
        assert isinstance(getattr(EngineConfig(), name), axis.values[0])
        assert all(value.__doc__ and not value.__doc__.startswith(value.__name__ + "(") for value in axis.values)


@dataclass(frozen=True)
class Far:
    """On the far side."""

    name: ClassVar[str] = "far"
    distance: float = 1.0
    sides: tuple[str, ...] = ()
    fast: bool = False


@pytest.mark.parametrize(
    ("given_value", "value"),
    [
        ("stock", Stock()),
        ("far", Far()),
        ({"value": "far", "distance": 2, "sides": ["left"], "fast": True}, Far(2.0, ("left",), True)),
        ({}, Stock()),
    ],
)
def test_an_axis_of_several_values_reads_and_writes_each(given_value: object, value: Any) -> None:
    axis = Axis("side", "Which side?", (Stock, Far))
    assert axis.read(given_value, "side") == value
    assert axis.read(json.loads(json.dumps(axis.write(value))), "side") == value


@pytest.mark.parametrize(("field", "text", "value"), [("distance", "2.5", 2.5), ("fast", "true", True)])
def test_text_is_read_by_the_type_of_its_field(field: str, text: str, value: object) -> None:
    assert getattr(Axis("side", "Which side?", (Far,)).with_field(Far(), field, text), field) == value


@pytest.mark.parametrize(
    ("field", "text"), [("distance", "nan"), ("distance", "1e999"), ("fast", "yes"), ("sides", "x")]
)
def test_text_of_another_type_is_refused(field: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"side.{field} is"):
        Axis("side", "Which side?", (Far,)).with_field(Far(), field, text)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"graphs": "full"}, "config.graphs is a Stock or a NoGraphs or a PiecewiseGraphs or a FullGraphs, not 'full'"),
        ({"limits": {"max_sequences": 2}}, "config.limits is a Limits, not {'max_sequences': 2}"),
        ({"dtype": "float8"}, "config.dtype can not be 'float8'"),
        ({"model": Path("/a")}, "config.model is a text, not PosixPath"),
        ({"engine": None}, "config.engine is a text, not None"),
    ],
)
def test_what_is_no_value_is_refused_also_where_a_program_made_the_config(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        EngineConfig(**given)
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["0.000001%", "12.5%", "90%", "3MiB", "7 B", "9223372036854775807 tokens"])
def test_a_budget_is_read_back_as_it_is_written(text: str) -> None:
    budget = KvBudget.parse(text)
    assert KvBudget.parse(str(budget)) == budget


def test_what_is_no_name_of_a_value_is_refused() -> None:
    with pytest.raises(UsageError, match=r"axis 'graphs' has no value \['full'\]"):
        EngineConfig.from_dict({"graphs": {"value": ["full"]}})
    with pytest.raises(UsageError, match="max_sequences must be 1 to 1048576"):
        Limits(max_sequences=2**63)


NESTED = "[" * 5000 + "]" * 5000
DIGITS = "1" * 5000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"model: {NESTED}", "not YAML that can be read: it is nested too deeply"),
        (f"limits: {{max_sequences: {DIGITS}}}", "not YAML that can be read: a value in it can not be: Exceeds the"),
        (f"limits: {{max_batched_tokens: 0x{DIGITS}}}", "config.limits.max_batched_tokens can not be so large"),
        (f"graphs: 0x{DIGITS}", "config.graphs is a name or a mapping, not a number of thousands of digits"),
        (f"dtype: 0x{DIGITS}", "config.dtype can not be a number of thousands of digits: known: auto"),
        ("model: !!int x", "not YAML that can be read: a value in it can not be: invalid literal"),
        ("model: !!bool x", "not YAML that can be read: a value in it can not be: 'x'"),
    ],
)
def test_what_python_can_not_read_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        EngineConfig.from_yaml(text)
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_json_that_python_can_not_read_is_refused_in_one_line() -> None:
    for value, message in ((NESTED * 20, "nested too deeply"), (DIGITS, "a value in it can not be: Exceeds the limit")):
        with pytest.raises(UsageError, match=rf"^not JSON that can be read: .*{message}[^\n;]*$"):
            EngineConfig.from_json(f'{{"model": {value}}}')


@pytest.mark.parametrize("text", ["2020-13-45", "2020-01-01", "2020-01-01 10:00:00"])
def test_what_looks_like_a_date_is_a_text(text: str) -> None:
    assert EngineConfig.from_yaml(f"model: {text}").model == text
    assert EngineConfig.from_yaml(EngineConfig(model=text).to_yaml()).model == text


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda wrong: EngineConfig.from_dict(wrong), "config is a mapping of names to values, not None"),
        (lambda wrong: Workload.from_dict(wrong), "workload is a mapping of names to values, not None"),
        (lambda wrong: Limits(max_sequences=wrong), "limits.max_sequences is a whole number, not None"),
        (lambda wrong: Parallel(tensor=wrong), "parallel.tensor is a whole number, not None"),
        (lambda wrong: Workload(("a",), max_tokens=wrong), "workload.max_tokens is a whole number, not None"),
        (lambda wrong: Workload(("a",), top_p=wrong), "workload.top_p is a number, not None"),
        (lambda wrong: Workload(("a",), stop_at_end=wrong), "workload.stop_at_end is true or false, not None"),
    ],
)
def test_nothing_is_no_value(make: Any, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        make(None)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_sequences": "8"}, "limits.max_sequences is a whole number, not '8'"),
        ({"max_sequences": 2.5}, "limits.max_sequences is a whole number, not 2.5"),
        ({"max_sequences": True}, "limits.max_sequences is a whole number, not True"),
        ({"max_sequences": 10**5000}, "limits.max_sequences can not be so large: a number of thousands of digits"),
        ({"max_length": "9"}, "limits.max_length is a whole number or none, not '9'"),
        ({"kv_budget": "1GiB"}, "limits.kv_budget is a KvBudget or none, not '1GiB'"),
    ],
)
def test_limits_made_by_a_program_are_looked_at_too(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        Limits(**given)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("amount", "unit", "message"),
    [
        (0.9, "fraction", "kv_budget.unit can not be 'fraction': "),
        (5, None, "kv_budget.unit can not be None: known: bytes, share, tokens"),
        (100.5, "tokens", "kv_budget.amount is a whole number of tokens, not 100.5"),
        (1.5, "bytes", "kv_budget.amount is a whole number of bytes, not 1.5"),
        (np.float64(3), "bytes", "kv_budget.amount is a whole number of bytes, not 3.0"),
        (-5, "bytes", "a KV budget can not be -5 B: give up to "),
        (0, "tokens", "a KV budget can not be 0 tokens: give up to "),
        (
            2**63,
            "bytes",
            "a KV budget can not be 9223372036854775808 B: give up to 9223372036854775807 bytes",
        ),
        (100.1, "share", "a KV budget can not be 100.1%: "),
        (-1e-9, "share", "a KV budget can not be -0.000000001%: "),
        (float("nan"), "share", "kv_budget.amount is a whole number or a number, not nan"),
        (float("inf"), "share", "kv_budget.amount is a whole number or a number, not inf"),
        (True, "tokens", "kv_budget.amount is a whole number or a number, not True"),
        (10**30, "bytes", "kv_budget.amount can not be so large: 1000000000000000000000000000000"),
        ("x", "bytes", "kv_budget.amount is a whole number or a number, not 'x'"),
    ],
)
def test_a_budget_made_by_a_program_is_looked_at_too(amount: Any, unit: Any, message: str) -> None:
    with pytest.raises(UsageError) as refused:
        KvBudget(amount, unit)
    assert str(refused.value).startswith(message)


def test_numbers_of_numpy_become_python_s() -> None:
    nine: Any = np.int64(9)
    half: Any = np.float32(0.5)
    made = [KvBudget(nine, "bytes"), KvBudget(nine, "tokens"), KvBudget(half, "share")]
    assert [type(budget.amount) for budget in made] == [int, int, float]
    assert [KvBudget.parse(str(budget)) for budget in made] == made
    for number in (half, np.float64(0.5)):
        workload = Workload(("a",), max_tokens=nine, temperature=number, top_k=nine)
        assert {type(value) for value in workload.to_dict().values()} == {list, int, float, bool}
        assert Workload.from_dict(json.loads(json.dumps(workload.to_dict()))) == workload
    assert type(Limits(max_length=nine).max_length) is int


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompts": "ab"}, "workload.prompts is a tuple, not 'ab'"),
        ({"prompts": ("a", 1)}, "workload.prompts[1] is a text, not 1"),
        ({"prompts": ("a", "\ud800")}, "workload has '\\ud800', which is no text that UTF-8 can say"),
        ({"stop": "ad"}, "workload.stop is a tuple, not 'ad'"),
        ({"max_tokens": 2.5}, "workload.max_tokens is a whole number, not 2.5"),
        ({"temperature": float("inf")}, "workload.temperature is a number, not inf"),
        ({"temperature": "1"}, "workload.temperature is a number, not '1'"),
        ({"seed": 2**64}, "workload.seed can not be so large: 18446744073709551616"),
    ],
)
def test_a_workload_made_by_a_program_is_looked_at_too(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        Workload(**{"prompts": ("a",), **given})
    assert message in str(refused.value)


def test_a_workload_of_a_notebook_is_read_as_it_is_meant() -> None:
    given = {"prompts": ["a"], "max_tokens": np.int64(3), "temperature": np.float32(0.5), "top_p": np.float64(1)}
    workload = Workload.from_dict({**given, "top_k": np.uint8(2), "stop": "the"})
    assert workload == Workload(("a",), max_tokens=3, temperature=0.5, top_k=2, stop=("the",))
    assert Workload.from_dict(json.loads(json.dumps(workload.to_dict()))) == workload
    assert EngineConfig().with_setting("limits.max_length", np.int32(9)).limits == Limits(max_length=9)
    for refused in (np.bool_(True), True, np.float64(3)):
        with pytest.raises(UsageError, match="max_tokens is a whole number"):
            Workload.from_dict({**given, "max_tokens": refused})


def test_a_workload_comes_back_equal() -> None:
    workload = Workload(("One", "Two"), max_tokens=3, temperature=0.5, seed=7, stop_at_end=False)
    assert Workload.from_dict(json.loads(json.dumps(workload.to_dict()))) == workload
    assert hash(workload) == hash(Workload.from_dict(workload.to_dict()))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "workload needs 'prompts'"),
        ({"prompts": []}, "at least one prompt"),
        ({"prompts": ["a", ""]}, "none of them empty"),
        ({"prompts": "a"}, "workload.prompts is a tuple, not 'a'"),
        ({"prompts": ["a", 1]}, "workload.prompts[1] is a text, not 1"),
        ({"prompts": ["a"], "max_tokens": 0}, "max_tokens must be at least 1, not 0"),
        ({"prompts": ["a"], "temperature": -1}, "temperature must be 0 or more, not -1"),
        ({"prompts": ["a"], "max_token": 3}, "workload has no 'max_token': did you mean 'max_tokens'?"),
    ],
)
def test_a_workload_that_asks_nothing_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        Workload.from_dict(fields)
    assert message in str(refused.value)
