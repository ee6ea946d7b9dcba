"""The command line, as it is called."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from workbench.run.manifest import Manifest
from workbench.run.migrations import VERSION
from workbench.run.run import write_run
from workbench.run.store import Store

PROGRAM = (
    "import numpy, workbench\nwith workbench.phase('work'):\n    x = numpy.ones(8 << 20, numpy.uint8)\nprint('said')\n"
)


FILLED = ("--model", "--engine", "--config", "--prompts", "--out", "--name")


class Workbench:
    """The command with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "workbench", *arguments]
        environment = os.environ | {"WORKBENCH_HOME": str(self.home)}
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)

    def json(self, *arguments: str) -> Any:
        """What it prints with --json: one document and nothing else."""
        done = self(*arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two runs of a program."""
    home = tmp_path_factory.mktemp("home")
    (home / "program.py").write_text(PROGRAM)
    for name in ("first", "second"):
        done = Workbench(home)("record", "--name", name, "--", sys.executable, str(home / "program.py"))
        assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def workbench(home: Path) -> Workbench:
    return Workbench(home)


def test_record_ends_with_one_object_that_names_the_run(workbench: Workbench) -> None:
    done = workbench("record", "--name", "third", "--", sys.executable, str(workbench.home / "program.py"))
    assert done.stdout.startswith("said\n")
    last = json.loads(done.stdout.splitlines()[-1])
    assert workbench.json("runs", "--json")[0]["run"] == last["run"]
    clean = workbench.json("record", "--json", "--", sys.executable, str(workbench.home / "program.py"))
    assert clean["status"] == "complete"


def test_show_says_where_the_memory_went(workbench: Workbench) -> None:
    document = workbench.json("show", "--json")
    assert [phase["name"] for phase in document["phases"]] == ["program", "work"]
    work = document["phases"][1]
    assert work["end_s"] > work["start_s"]
    assert work["peak_bytes"]["pageable"] >= work["end_bytes"]["pageable"] >= 8 << 20
    ledger = document["ledger"]["pageable"]
    assert ledger["used"] == ledger["explained"] + ledger["unexplained"]
    assert any(owner.startswith("_multiarray_umath") and held >= 8 << 20 for owner, held in ledger["owners"].items())
    assert document["peak"]["pageable"]["bytes"] >= 8 << 20
    text = workbench("show").stdout
    assert "work" in text
    assert "unexplained" in text


def test_runs_are_listed_newest_first(workbench: Workbench) -> None:
    names = [run["name"] for run in workbench.json("runs", "--json")]
    assert names.index("second") < names.index("first")


def test_of_one_second_the_last_run_is_the_newest(tmp_path: Path) -> None:
    for name in ("z", "a"):
        manifest = Manifest.new(name, VERSION)
        manifest.id = f"20261121-101500-{name}-0000"
        write_run(tmp_path / manifest.id, manifest, {})
    assert [run.manifest.name for run in Store(tmp_path).runs()] == ["a", "z"]


def test_compare_aligns_by_phase_and_owner(workbench: Workbench) -> None:
    first, second = (run["run"] for run in workbench.json("runs", "--json") if run["name"] in ("first", "second"))
    document = workbench.json("compare", first, second, "--json")
    assert document["runs"] == [first, second]
    assert [phase["what"] for phase in document["phases"]["pageable"]] == ["program", "work"]
    spreads = [owner["spread"] for owner in document["owners"]["pageable"]]
    assert spreads == sorted(spreads, reverse=True)
    assert workbench("compare", first).returncode == 2


def test_what_engines_were_asked_is_told_and_that_it_was_not_the_same(workbench: Workbench, tmp_path: Path) -> None:
    rules: dict[str, Any] = {"max_tokens": 5, "top_k": None, "stop": []}
    for name, prompts in (("one", ["Once\n"]), ("two", ["x" * 100, "b", "c"])):
        manifest = Manifest.new(name, VERSION, workloads=[{"prompts": prompts} | rules] * (6 if name == "two" else 1))
        manifest.id, manifest.status = name, "complete"
        write_run(tmp_path / name, manifest, {})
    store = ("--store", str(tmp_path))
    assert "asked: 'Once\\n'; max_tokens 5\n" in workbench("show", "one", *store).stdout
    said = workbench("show", "two", *store).stdout
    assert said.count(f"asked: '{'x' * 40}…' and 2 more; max_tokens 5\n") == 5
    assert "asked: 1 more\n" in said
    assert "their workloads are not the same" in workbench("compare", "one", "two", *store).stdout
    assert "workloads" not in workbench("compare", "one", "one", *store).stdout
    assert not workbench.json("compare", "one", "two", "--json", *store)["has_same_workloads"]


@pytest.mark.parametrize("form", ["html", "perfetto", "snapshot", "csv", "parquet"])
def test_export_writes_once(workbench: Workbench, tmp_path: Path, form: str) -> None:
    path = tmp_path / form
    assert workbench.json("export", "latest", "--to", form, "--out", str(path), "--json")["path"] == str(path)
    assert path.exists()
    again = workbench("export", "latest", "--to", form, "--out", str(path))
    assert again.returncode != 0
    assert len(again.stderr.splitlines()) == 1


def test_import_makes_a_run_of_a_snapshot(workbench: Workbench, tmp_path: Path) -> None:
    workbench("export", "latest", "--to", "snapshot", "--out", str(tmp_path / "x.pickle"))
    made = workbench.json("import", str(tmp_path / "x.pickle"), "--json")
    assert workbench.json("show", made["run"], "--json")["manifest"]["status"] == "imported"


def test_a_hostile_pickle_runs_nothing(workbench: Workbench, tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    (tmp_path / "x.pickle").write_bytes(pickle.dumps(Hostile()))
    done = workbench("import", str(tmp_path / "x.pickle"))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["sow"], 2, "did you mean 'show'"),
        (["show", "nonesuch"], 1, "there is no run 'nonesuch'"),
        (["show", "--at", "soon"], 2, "'soon' is no moment"),
        (["show", "--at=-5"], 2, "outside of the run"),
        (["record"], 2, "no program to record"),
        (["record", "--engine", "reference"], 2, "nothing to answer"),
        (["record", "--prompt", "x", "--engine", "vlm"], 2, "no engine 'vlm'"),
        (["record", "--engine", "reference", "--", "true"], 2, "record one of them"),
        (["generate"], 2, "nothing to answer"),
        (["record", "--threshold", "4 GBB", "--", "true"], 2, "4 GBB"),
        (["generate", "x", "--engine", "vlm"], 2, "no engine 'vlm'"),
        (["generate", "x", "--set", "graph.mode=full"], 2, "graph"),
        (["generate", "x", "--set", "limits"], 2, "has no value"),
        (["generate", "x", "--model", "nonesuch"], 2, "nonesuch"),
        (["generate", "--prompts", "/nonesuch"], 2, "/nonesuch"),
        (["record", "--without", "cuda", "--", "true"], 2, "no source 'cuda'"),
        (["record", "--", "/nonesuch"], 127, "/nonesuch can not be started"),
        (["record", "--", "/etc/passwd"], 126, "/etc/passwd can not be started"),
        (["generate", "--max-tokens", "many", "x"], 2, "--max-tokens"),
        *((["generate", "x", option, ""], 2, f"{option}: it is empty: ") for option in FILLED),
        (["generate", "--prompt", "x"], 2, "unrecognized arguments: --prompt"),
        (["export", "latest", "--to", "xml"], 2, "no format 'xml'"),
        (["export", "latest", "--to", "html", "--out", "/nonesuch/x.html"], 1, "/nonesuch is no folder"),
        (["import", "/nonesuch"], 1, "/nonesuch"),
        (["study", "process-grup"], 2, "did you mean 'process-group'"),
        (["study", "pinned-memory", "--repeats", "0"], 2, "at least 1 run"),
        (["study", "pinned-memory", "--repeats", "3", "--out", "/dev/null"], 1, "no run can be written in /dev/null"),
        (["pinned-cost", "257GB B"], 2, "257GB B"),
        (["pinned-cost", "9223372036854775808"], 2, "too large a size"),
        (["generate", "x", "--set", "process_group=glo"], 2, "did you mean 'gloo'"),
        (["generate", "x", "--set", "parallel.tensor=2"], 2, "it is one rank"),
        (["runs", "--store", "/etc/passwd"], 1, "is no folder of runs"),
        (["record", "--out", "/proc/nothing", "--", "true"], 1, "no run can be written"),
    ],
)
def test_bad_input_gets_one_line_and_its_exit_code(
    workbench: Workbench, arguments: list[str], code: int, says: str
) -> None:
    done = workbench(*arguments)
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr


@pytest.mark.parametrize("asked", [True, False])
def test_an_error_is_an_object_too_where_the_workbench_was_asked_for_json(workbench: Workbench, asked: bool) -> None:
    done = workbench("record", *["--json"] * asked, "--", "/nonesuch", "--json")
    what = done.stderr.removeprefix("workbench: ").strip()
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"error": what}] * asked


def test_the_exit_code_of_a_script_is_passed_on(workbench: Workbench) -> None:
    assert workbench("record", "--json", "--", sys.executable, "-c", "raise SystemExit(3)").returncode == 3


def test_axes_are_listed(workbench: Workbench) -> None:
    assert {"limits", "process_group", "graphs"} <= {axis["name"] for axis in workbench.json("axes", "--json")}


def test_what_page_locked_memory_costs_is_measured_or_predicted(workbench: Workbench) -> None:
    arms = {arm["arm"]: arm for arm in workbench.json("pinned-cost", "257GiB", "--json")["arms"]}
    assert (arms["pinned-pool"]["taken"], arms["host-register"]["taken"]) == (512 << 30, 257 << 30)
    small = {arm["arm"]: arm for arm in workbench.json("pinned-cost", "3MiB", "--json")["arms"]}
    pageable = small["pageable"]
    assert (pageable["how"], pageable["taken"], pageable["predicted"]) == ("measured", 3 << 20, 3 << 20)
    assert {arm["how"] for arm in small.values() if arm["why"]} <= {"predicted"}
    assert {name for name, arm in small.items() if arm["taken"] != 3 << 20} == {"pinned-pool"}


def test_studies_are_listed_and_done(workbench: Workbench) -> None:
    assert {"process-group", "pinned-memory"} <= {study["name"] for study in workbench.json("study", "--json")}
    found = workbench.json("study", "pinned-memory", "--json")
    [pageable, *_] = found["variants"]
    assert pageable["numbers"]["1 MiB taken"]["median"] == 1 << 20
    assert any(sentence.startswith("pageable takes") for sentence in found["answer"])


def test_doctor_sees_what_it_takes(workbench: Workbench) -> None:
    report = workbench.json("doctor", "--json")
    assert report["works"]
    assert report["stacks"]
    assert set(report["checks"].values()) == {"seen"}
    assert {source["name"] for source in report["sources"]} == {"host", "torch", "driver", "copies", "totals"}
    assert all(source["never"] for source in report["sources"])


def test_it_starts_fast(workbench: Workbench) -> None:
    def seconds() -> float:
        start = time.perf_counter()
        workbench("--help")
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.3


def test_a_hostile_store_is_listed_without_what_can_not_be_read(workbench: Workbench, tmp_path: Path) -> None:
    plain = {"name": "x", "schema": 1, "status": "complete", "started": "", "started_ns": 1}
    manifests = [
        plain | {"id": "fine"},
        {"schema": 999},
        plain | {"id": "../../evil"},
        plain | {"id": "x", "counts": []},
    ]
    for number, manifest in enumerate(manifests):
        (tmp_path / "runs" / str(number)).mkdir(parents=True)
        (tmp_path / "runs" / str(number) / "manifest.json").write_text(json.dumps(manifest))
    done = workbench("runs", "--store", str(tmp_path / "runs"), "--json")
    assert [run["run"] for run in json.loads(done.stdout)] == ["fine"]
    assert len(done.stderr.splitlines()) == 3
    assert "upgrade memory-workbench" in done.stderr
    done = workbench("export", "2", "--to", "csv", "--store", str(tmp_path / "runs"))
    assert done.returncode == 1
    assert "is not a plain name" in done.stderr


def test_an_import_that_can_not_be_written_gets_one_line(workbench: Workbench, tmp_path: Path) -> None:
    workbench("export", "latest", "--to", "snapshot", "--out", str(tmp_path / "x.pickle"))
    done = workbench("import", str(tmp_path / "x.pickle"), "--out", "/proc/nothing")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "no run can be written" in done.stderr


def test_models_are_listed_and_had_by_name(workbench: Workbench) -> None:
    known = {row["model"]: row["what"] for row in workbench.json("models", "--json")}
    assert known["smollm2"] == "real weights"
    assert {name for name, what in known.items() if "random" in what} >= {"llama-3.2-1b", "qwen3-0.6b", "smollm2-135m"}
    [had] = workbench.json("models", "qwen3-0.6b", "--json")
    assert (Path(had["folder"]) / "config.json").is_file()
    done = workbench("models", "qwen3-0.7b")
    assert (done.returncode, done.stdout) == (2, "")
    assert "qwen3-0.6b" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "setting", "says"),
    [
        ({}, "limits.max_length=129", "limits.max_length 129 is more than the 128 tokens"),
        ({"model_type": "mamba"}, "dtype=auto", "engine 'reference' has no model family 'mamba'"),
        ({"num_hidden_layers": "many"}, "dtype=auto", "config.json has a value that can not be"),
    ],
)
def test_a_model_that_can_not_do_what_was_asked_leaves_no_run(
    changes: dict[str, Any], setting: str, says: str, workbench: Workbench, tiny_model: Path, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(json.loads((tiny_model / "config.json").read_text()) | changes))
    done = workbench("generate", "a", "--model", str(tmp_path), "--set", setting, "--out", str(tmp_path / "runs"))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert says in done.stderr
    assert not (tmp_path / "runs").exists()


def generate(model: Path, runs: Path, *arguments: str, shell: str = "") -> subprocess.CompletedProcess[str]:
    """A generation by a small model; the shell may take its stdout from it."""
    command = [sys.executable, "-m", "workbench", "generate", "--model", str(model), "--out", str(runs)]
    command += ["--max-tokens", "3", *arguments]
    script = f'exec "$@" {shell}'
    return subprocess.run(
        ["sh", "-c", script, "sh", *command], capture_output=True, text=True, timeout=120, check=False
    )


def test_prompts_may_stand_on_both_sides_of_an_option(tiny_model: Path, tmp_path: Path) -> None:
    done = generate(tiny_model, tmp_path, "a", "--seed", "3", "b", "--json")
    assert [answer["prompt"] for answer in json.loads(done.stdout)["answers"]] == ["a", "b"]
    done = generate(tiny_model, tmp_path, "--json", "--", "-x", "b")
    assert [answer["prompt"] for answer in json.loads(done.stdout)["answers"]] == ["-x", "b"]


def test_only_the_end_of_a_line_ends_a_prompt_of_a_file(tiny_model: Path, tmp_path: Path) -> None:
    prompts = ["one\x0cprompt", "another\u2028one", "the\rlast"]
    (tmp_path / "prompts").write_bytes(b"\xef\xbb\xbf" + "\r\n \n".join(prompts).encode())
    done = generate(tiny_model, tmp_path / "runs", "--prompts", str(tmp_path / "prompts"), "--json")
    assert [answer["prompt"] for answer in json.loads(done.stdout)["answers"]] == prompts


def test_a_sign_that_stdout_can_not_say_costs_no_answer(tiny_model: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "generate", "😀", "a", "--model", str(tiny_model), "--out", str(tmp_path)],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "[0] ?" in done.stdout


@pytest.mark.usefixtures("nothing_is_left")
@pytest.mark.parametrize(
    ("shell", "arguments", "status", "says"),
    [
        (">/dev/full", ["a"], "failed", "stdout can not be written: No space left on device; the run is kept: /"),
        (">/dev/full", ["a", "--json"], "complete", "stdout can not be written: No space left on device"),
        (">/dev/full", ["a", "--json", "--seed", "x"], None, "stdout can not be written: No space left on device"),
        (">&-", ["a"], None, "stdout is closed: leave it open, or give it /dev/null"),
    ],
)
def test_a_stdout_that_takes_nothing_gets_one_line(
    shell: str, arguments: list[str], status: str | None, says: str, tiny_model: Path, tmp_path: Path
) -> None:
    done = generate(tiny_model, tmp_path, *arguments, shell=shell)
    assert done.returncode == 1
    *others, last = done.stderr.splitlines()
    assert last.startswith(f"workbench: {says}")
    assert len(others) == ("--seed" in arguments), "what was wrong before"
    assert [run.manifest.status for run in Store(tmp_path).runs()] == ([status] if status else [])
