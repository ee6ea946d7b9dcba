"""An engine in a process of its own: streams, stops when nobody listens, and ends with its session."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workbench
from tests.sessions import config
from workbench.config import EngineConfig, Workload
from workbench.errors import UsageError
from workbench.launch.session import Session
from workbench.run.metrics import per_request, summary
from workbench.run.run import Run
from workbench.run.store import Store

pytestmark = pytest.mark.usefixtures("nothing_is_left")

WORDS = ("the quick fox", "a", "jumps over it")


def test_texts_to_stop_at_are_refused_where_answers_have_no_text(tiny_model: Path, tmp_path: Path) -> None:
    shape = tmp_path / "shape"
    shape.mkdir()
    (shape / "config.json").write_text((tiny_model / "config.json").read_text())
    with pytest.raises(UsageError, match=r"has no tokenizer, .* leave out stop"):
        workbench.generate(config(shape), "a", store=Store(tmp_path / "runs"), max_tokens=3, stop=("x",))
    assert not (tmp_path / "runs").exists(), "no engine was started for it"
    with Session(config(shape), store=Store(tmp_path / "runs")) as session:
        with pytest.raises(UsageError, match="no tokenizer"):
            session.generate("a", max_tokens=3, stop=("x",))
        assert len(session.generate("\t", max_tokens=3)[0].tokens) == 3  # bytes are its tokens, of which it knows few
    command = [sys.executable, "-m", "workbench", "generate", "a", "--model", str(shape), "--stop", "x"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("so no answer has a text to stop at: leave out stop\n")


@pytest.mark.parametrize("own", [None, "7"])
def test_an_engine_spins_at_barriers_only_as_long_as_its_neighbours_can_bear(
    tiny_model: Path, tmp_path: Path, own: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if own:
        monkeypatch.setenv("GOMP_SPINCOUNT", own)
    with Session(config(tiny_model), store=Store(tmp_path)) as session:
        environment = Path(f"/proc/{session._process.pid}/environ").read_text().split("\0")
    assert f"GOMP_SPINCOUNT={own or 1000}" in environment


def test_what_comes_out_alone_comes_out_in_a_session(tiny_model: Path, tmp_path: Path) -> None:
    with Session(config(tiny_model), store=Store(tmp_path)) as session:
        streamed = list(session.generate(WORDS, stream=True, max_tokens=20))
        answers = session.generate(Workload(WORDS, max_tokens=20))
    for index, answer in enumerate(answers):
        tokens = [token for token in streamed if token.request == index]
        assert answer.text == "".join(token.text for token in tokens)
        assert answer.tokens == tuple(token.id for token in tokens)
        assert answer.end in ("stop", "length")
    run = session.run
    assert run is not None
    assert (run.manifest.status, run.manifest.lost) == ("complete", 0)
    assert run.manifest.notes["outputs"] == [answer.text for answer in answers] * 2
    assert [Workload.from_dict(asked) for asked in run.workloads] == [Workload(WORDS, max_tokens=20)] * 2
    assert [name for name in run.phases()["name"] if name != "program"] == [
        "load_weights",
        "kv_cache",
        "generate",
        "generate",
        "teardown",
    ]
    requests = per_request(run)
    assert requests["request"].tolist() == [0, 1, 2, 3, 4, 5]
    assert (requests[["queue_s", "first_token_s"]] >= 0).all().all()
    assert summary(run)["tokens"] == 2 * sum(len(answer.tokens) for answer in answers)


def test_memory_can_be_followed_while_it_generates(tiny_model: Path, tmp_path: Path) -> None:
    with Session(config(tiny_model), store=Store(tmp_path)) as session:
        feed = session.feed
        assert feed.is_live
        session.generate("a", max_tokens=5)
        assert feed.new("events").num_rows
    assert not feed.is_live


def test_a_stream_that_is_left_is_cancelled_and_the_session_goes_on(tiny_model: Path, tmp_path: Path) -> None:
    with Session(config(tiny_model), store=Store(tmp_path)) as session:
        for token in session.generate("a", stream=True, max_tokens=100, stop_at_end=False):
            if token.position == 3:
                break
        [answer] = session.generate("a", max_tokens=5, stop_at_end=False)
        assert len(answer.tokens) == 5
    assert session.run is not None
    ends = session.run.table("requests").column("end").to_pylist()
    assert ends[0] in ("cancelled", "length")  # this model may have answered before the word came through
    assert ends[1] == "length"


def test_a_session_that_nobody_closes_ends_with_the_program_and_says_nothing(tiny_model: Path, tmp_path: Path) -> None:
    """A stream of it is still there to be read, too, and would take minutes."""
    program = (
        "import sys\n"
        "from workbench import EngineConfig, Session, Store\n"
        "session = Session(EngineConfig(model=sys.argv[1]), store=Store(sys.argv[2])).__enter__()\n"
        "stream = session.generate(('a',) * 20000, stream=True, max_tokens=100, stop_at_end=False)\n"
        "next(stream)\n"
    )
    command = [sys.executable, "-c", program, str(tiny_model), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    assert "Traceback" not in done.stderr
    [run] = Store(tmp_path).runs()
    assert run.manifest.status == "complete"
    assert "cancelled" in run.table("requests").column("end").to_pylist()


def test_an_interrupt_ends_a_long_generation_at_once(tiny_model: Path, tmp_path: Path) -> None:
    many = Workload(("a",) * 5000, max_tokens=100, stop_at_end=False)
    with Session(config(tiny_model), store=Store(tmp_path)) as session:
        stream = session.generate(many, stream=True)
        next(stream)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        previous = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            list(stream)
        signal.signal(signal.SIGALRM, previous)
        assert time.monotonic() - start < 20
        assert len(session.generate("a", max_tokens=3, stop_at_end=False)[0].tokens) == 3
    assert session.run is not None
    assert "cancelled" in session.run.table("requests").column("end").to_pylist()


def test_interrupts_while_a_cancelled_answer_ends_cost_no_session(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Session(config(tiny_model), store=Store(tmp_path)) as session:
        settle = session._settle

        def interrupted() -> None:
            monkeypatch.setattr(session, "_settle", settle)
            raise KeyboardInterrupt

        stream = session.generate(Workload(("a",) * 500, max_tokens=100, stop_at_end=False), stream=True)
        next(stream)
        monkeypatch.setattr(session, "_settle", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stream.close()  # type: ignore[attr-defined]
        assert len(session.generate("a", max_tokens=3, stop_at_end=False)[0].tokens) == 3


def forked(does: Callable[[], object]) -> str:
    """What a forked child comes to: the error that leaves it, if any."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            does()
        except BaseException as error:
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as said:
        return said.read()


def test_a_forked_child_leaves_the_session_of_its_parent_alone(tiny_model: Path, tmp_path: Path) -> None:
    with Session(config(tiny_model), store=Store(tmp_path)) as session:
        stream = session.generate("a", stream=True, max_tokens=100, stop_at_end=False)
        next(stream)
        assert forked(stream.close) == ""  # type: ignore[attr-defined]
        assert forked(lambda: session.__exit__(None, None, None)) == ""
        for asks in (lambda: session.generate("a"), lambda: list(stream), session.stop):
            assert re.search(
                r"^UsageError: this session is of process \d+, .*: begin another session here$", forked(asks)
            )
        assert len(list(stream)) == 99
        assert len(session.generate("a", max_tokens=3, stop_at_end=False)[0].tokens) == 3
    assert session.run is not None
    assert session.run.manifest.status == "complete"


def test_a_session_is_used_in_its_block_and_begun_once(tiny_model: Path, tmp_path: Path) -> None:
    session = Session(config(tiny_model), store=Store(tmp_path))
    with pytest.raises(UsageError, match="has not begun"):
        session.generate("a")
    with pytest.raises(UsageError, match="has not begun"):
        _ = session.feed
    with session:
        pass
    with pytest.raises(UsageError, match="begun once"):
        session.__enter__()


@pytest.mark.parametrize(
    ("prompts", "rules", "message"),
    [
        ("", {}, "none of them empty"),
        (5, {}, "prompts are a text, several, or a Workload, not 5"),
        ({"a": 1}, {}, "prompts are a text, several, or a Workload, not {'a': 1}"),
        ("a\udc80", {}, "no text that UTF-8 can say"),
        ("a", {"temperature": float("nan")}, "temperature is a number, not nan"),
        ("a", {"rule": 1}, "no 'rule'"),
    ],
)
def test_what_is_no_workload_is_refused_before_anything_starts(
    prompts: Any, rules: dict[str, Any], message: str, tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        workbench.generate(config(tiny_model), prompts, store=Store(tmp_path), **rules)
    assert not list(tmp_path.iterdir())


def test_what_is_refused_costs_no_session(tiny_model: Path, tmp_path: Path) -> None:
    with Session(config(tiny_model), store=Store(tmp_path)) as session:
        with pytest.raises(UsageError, match="prompt 0 has 200 tokens"):
            session.generate("a" * 200)
        stream = session.generate("a", stream=True, max_tokens=50)
        next(stream)
        with pytest.raises(UsageError, match="is generating"):
            session.generate("a")
        stream.close()  # type: ignore[attr-defined]
        assert session.generate("a", max_tokens=2)[0].tokens
    with pytest.raises(UsageError, match="has ended"):
        session.generate("a")
    assert session.run is not None
    assert [asked["max_tokens"] for asked in session.run.workloads] == [50, 2], "and none that was refused"


def test_what_can_not_run_here_is_refused_before_anything_starts(tiny_model: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    for wrong, says in (
        (EngineConfig(engine="refrence", model=str(tiny_model)), "did you mean 'reference'"),
        (EngineConfig(model=str(tmp_path / "nothing")), "there is no model or folder"),
    ):
        with pytest.raises(UsageError, match=says):
            workbench.generate(wrong, "a", store=store)
    assert store.runs() == []


def test_generate_prints_the_text_as_it_comes_and_json_has_it_all(tiny_model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "workbench", "generate", "--model", str(tiny_model), "--out", str(tmp_path)]
    rules = ["--max-tokens", "9", "--set", "limits.max_length=64", "--temperature", "0.5", "--seed", "3"]
    done = subprocess.run([*command, *rules, WORDS[0]], capture_output=True, text=True, check=True)
    text, speed, where, _ = done.stdout.split("\n")
    assert speed.startswith("9 tokens, ")
    assert str(tmp_path) in where
    done = subprocess.run([*command, *rules, *WORDS, "--json"], capture_output=True, text=True, check=True)
    assert "NaN" not in done.stdout
    document = json.loads(done.stdout)
    assert document["answers"][0]["text"] == text
    assert [answer["metrics"]["answer_tokens"] for answer in document["answers"]] == [
        len(answer["tokens"]) for answer in document["answers"]
    ]
    assert Run.open(document["folder"]).manifest.config["limits"]["max_length"] == 64  # type: ignore[index]


def test_a_workload_is_recorded_for_its_run_alone(tiny_model: Path, tmp_path: Path) -> None:
    run = workbench.record(config(tiny_model), WORDS[0], store=Store(tmp_path), max_tokens=3)
    assert len(run.table("tokens")) == 3
    command = [sys.executable, "-m", "workbench", "record", "--model", str(tiny_model), "--prompt", WORDS[0]]
    command += ["--prompt", WORDS[1], "--max-tokens", "3", "--set", "dtype=float32", "--out", str(tmp_path), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert (said["status"], said["exit_code"]) == ("complete", 0)
    assert len(Store(tmp_path).open(said["run"]).table("requests")) == 2


@pytest.mark.parametrize(
    ("signs", "code", "what"),
    [
        ([signal.SIGINT], 130, "interrupted"),
        ([signal.SIGINT] * 4, 130, "interrupted"),
        ([signal.SIGTERM], 143, "ended by SIGTERM"),
    ],
)
def test_an_interrupt_keeps_the_run(tiny_model: Path, tmp_path: Path, signs: list[int], code: int, what: str) -> None:
    (tmp_path / "many").write_text("a\n" * 5000)
    command = [
        sys.executable,
        "-m",
        "workbench",
        "generate",
        "--model",
        str(tiny_model),
        "--out",
        str(tmp_path / "runs"),
    ]
    with subprocess.Popen(
        [*command, "--prompts", str(tmp_path / "many"), "--max-tokens", "100"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as one:
        assert one.stdout is not None
        assert one.stdout.readline().startswith("[")
        for sign in signs:
            os.killpg(one.pid, sign)
            time.sleep(0.02)
        said = one.communicate()[1]
    assert one.returncode == code
    [run] = Store(tmp_path / "runs").runs()
    assert said.endswith(f"workbench: {what}; the run is kept: {run.folder}\n")
    assert run.manifest.error == {**(run.manifest.error or {}), "what": what}
    assert len(run.table("tokens"))
