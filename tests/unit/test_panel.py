"""What a panel offers, says and draws, without a browser."""

from __future__ import annotations

import dataclasses
import random
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.builders import event
from workbench.config import Axis, EngineConfig, axes
from workbench.config.axes import Stock
from workbench.engines import why_not
from workbench.run import schema
from workbench.run.columns import codes, numbers
from workbench.run.store import Store
from workbench.run.timeline import Timeline, signed_bytes
from workbench.view.controls import form
from workbench.view.live import MOST_SAMPLES, History
from workbench.view.panel import Panel


def controls(config: EngineConfig) -> dict[str, dict[str, Any]]:
    return {control["name"]: control for group in form(config)["groups"] for control in group["controls"]}


def test_every_axis_and_field_has_a_control_that_is_read_back() -> None:
    config = EngineConfig().with_setting("limits.kv_budget", "64MiB")
    offered = controls(config)
    for axis in axes().values():
        assert len(axis.values) == 1 or axis.name in offered
        value = getattr(config, axis.name)
        assert {f"{axis.name}.{field.name}" for field in dataclasses.fields(value)} <= offered.keys()
    for name, control in offered.items():
        given = control["value"] or control["empty"]
        assert config.with_setting(name, given) == config
    assert offered["limits.kv_budget"]["value"] == "64 MiB"


@dataclasses.dataclass(frozen=True)
class Often:
    """Prompts are asked more than once."""

    name: ClassVar[str] = "often"
    times: int = 3


def test_a_new_axis_has_its_controls_by_its_declaration_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    axis = Axis("asking", "How often is a prompt asked?", (Stock, Often))
    declared = dataclasses.field(default=Often(), metadata={"form": axis})
    fields = [("asking", Stock | Often, declared)]
    config = dataclasses.make_dataclass("Config", fields, bases=(EngineConfig,), frozen=True)
    monkeypatch.setattr("workbench.view.controls.axes", lambda: axes() | {"asking": axis})
    last = form(config())["groups"][-1]
    assert last["question"] == axis.question
    assert [(one["name"], one["value"]) for one in last["controls"]] == [("asking", "often"), ("asking.times", "3")]
    assert [one["name"] for one in last["controls"][0]["options"]] == ["stock", "often"]


def test_what_this_host_can_not_do_has_the_engine_s_own_reason() -> None:
    for control in controls(EngineConfig()).values():
        for option in control.get("options", ()):
            axis = axes().get(control["name"])
            if axis:
                [value] = [one for one in axis.values if one.name == option["name"]]
                assert option["why_not"] == why_not("reference", axis.name, value())
    assert "set parallel.tensor to 1" in form(EngineConfig().with_setting("parallel.tensor", 2))["refused"]


def test_a_live_history_keeps_the_peak_and_the_last() -> None:
    chance = random.Random(1)
    rows, held = [], 0
    for time_ns in range(40_000):
        size = chance.randrange(1, 1000)
        kind = "alloc" if held < 50_000 or chance.random() < 0.5 else "free"
        held += size if kind == "alloc" else -size
        rows.append(event(time_ns, kind, size, 0x1000, owner=f"lib{chance.randrange(12)}.so"))
    table = pa.Table.from_pylist(rows, schema.EVENTS)
    history = History()
    owners, names = codes(table, "owner")
    times, change = numbers(table, "time_ns"), signed_bytes(table)
    for start in range(0, len(rows), 900):
        new = slice(start, start + 900)
        history.add(times[new], owners[new], change[new])
    bands = history.bands([name or "" for name in names])
    sums = np.sum(list(bands.values()), axis=0)
    whole = Timeline.of(table, "pageable")
    assert len(history.times) <= MOST_SAMPLES
    assert len(bands) == 9
    assert "others" in bands
    assert int(sums.max()) == whole.peak.bytes
    assert (history.times[-1], int(sums[-1])) == (39_999, whole.end)
    for at, size in zip(history.times.tolist(), sums.tolist(), strict=True):
        assert size == whole.at(at)


def test_a_history_tells_only_what_a_picture_shows() -> None:
    history, owners = History(), np.array([1, 2])
    history.add(np.array([10, 11]), owners, np.array([4000, 100]))
    assert history.is_seen_to_move()
    history.tell()
    assert not history.is_seen_to_move()
    history.add(np.array([20, 21]), owners, np.array([8, -9]))
    assert not history.is_seen_to_move(), "one 400th of the height can be seen"
    history.add(np.array([30]), owners[:1], np.array([3]))
    assert history.is_seen_to_move(), "small moves add up"
    history.tell()
    history.add(np.array([40, 41]), owners[[0, 0]], np.array([50, -50]))
    assert history.is_seen_to_move(), "a peak that is gone again"


@pytest.fixture
def panel(tiny_model: Path, tmp_path: Path) -> Panel:
    config = EngineConfig(model=str(tiny_model), dtype="float32")
    return Panel(config, prompt="a", max_tokens=5, store=Store(tmp_path))


def asked(panel: Panel, ask: str, **question: Any) -> dict[str, Any]:
    return panel.answer({"ask": ask, **question}).facts


def wait(panel: Panel, state: str) -> None:
    deadline = time.monotonic() + 60
    while panel.status["state"] != state:
        assert time.monotonic() < deadline, panel.status
        time.sleep(0.02)


def test_a_panel_keeps_its_engine_until_its_config_changes(panel: Panel) -> None:
    assert "error" not in asked(panel, "generate", prompt="a", max_tokens=5)
    assert "busy" in asked(panel, "generate", prompt="a", max_tokens=5)["error"]
    wait(panel, "ready")
    assert panel.status["tokens"] >= 1
    assert "error" not in asked(panel, "generate", prompt="b", max_tokens=3)
    wait(panel, "answering")
    wait(panel, "ready")
    assert panel.runs == []
    asked(panel, "choose", name="limits.max_sequences", value="2")
    assert asked(panel, "record", prompt="c", max_tokens=3) == {}
    wait(panel, "idle")
    panel.close()
    assert [len(run.manifest.notes["outputs"]) for run in panel.runs] == [2, 1]
    assert [run.manifest.status for run in panel.runs] == ["complete"] * 2
    assert panel.listed[1]["settings"][-1] == "limits.max_sequences 2"
    assert asked(panel, "shown", runs=[0, 1]) == {}
    assert asked(panel, "comparison")["tiers"] == ["pageable"]


def test_an_engine_goes_on_after_what_it_refuses(panel: Panel) -> None:
    asked(panel, "generate", prompt="a", max_tokens=2)
    wait(panel, "ready")
    asked(panel, "generate", prompt="a" * 200, max_tokens=2)
    deadline = time.monotonic() + 20
    while not panel.status["error"] and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "prompt 0 has 200 tokens" in panel.status["error"]
    assert panel.status["state"] == "ready"
    panel.close()
    assert len(panel.runs) == 1


def test_the_run_of_an_engine_that_died_is_kept_and_says_why(panel: Panel) -> None:
    asked(panel, "generate", prompt="a", max_tokens=2)
    wait(panel, "ready")
    session = panel._conductor._session
    assert session is not None
    session._process.kill()
    asked(panel, "end")
    wait(panel, "idle")
    assert "killed by SIGKILL" in panel.status["error"]
    assert [run.manifest.status for run in panel.runs] == ["incomplete"]


def test_what_can_not_be_chosen_changes_nothing(panel: Panel) -> None:
    before = panel.config
    assert "did you mean" in asked(panel, "choose", name="process_group", value="glo")["error"]
    assert "no run is shown" in asked(panel, "weather")["error"]
    assert "max_tokens must be at least 1" in asked(panel, "record", prompt="a", max_tokens=0)["error"]
    assert panel.config == before
    assert "needs a kernel" not in panel.still()["text/plain"]
    assert panel.still()["text/html"].startswith("<p data-workbench-static=")
    panel.close()
