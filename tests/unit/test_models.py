"""A model's folder is there whole or not at all, whatever happens while it is made."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from workbench.cli.main import main
from workbench.config import EngineConfig, models
from workbench.config.models import PackagedModel, fetched, has_weights, resolve
from workbench.config.wholeness import PROOF
from workbench.engines import engines, model_folder
from workbench.errors import EngineError, UsageError, WorkbenchError

GGUF = b"weights"
COPY = (
    "import shutil, sys, os; os.mkdir(sys.argv[2]); shutil.copy(sys.argv[1], sys.argv[2]); "
    "open(sys.argv[2] + '/tokenizer.json', 'w').close()"
)
FAIL = "import sys, os; os.mkdir(sys.argv[2]); sys.exit('first line\\nno such layer')"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models folder, with the file of a model named `small` in it, which is converted by copying."""
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    small = PackagedModel("no-such-package==1", "small.gguf", hashlib.sha256(GGUF).hexdigest())
    monkeypatch.setitem(models.MODELS, "small", small)
    monkeypatch.setattr(models, "CONVERT", (sys.executable, "-c", COPY))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "small.gguf").write_bytes(GGUF)
    return tmp_path / "models"


def made(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix not in (".lock", ".gguf"))


def test_a_known_model_is_made_once(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert resolve("small") == resolve("small") == folder / "small"
    assert (folder / "small" / "small.gguf").read_bytes() == GGUF
    assert made(folder) == ["small"]
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1


def lose_a_part(made: Path) -> None:
    (made / "small.gguf").write_bytes(GGUF[:3])


def lose_a_file(made: Path) -> None:
    (made / "tokenizer.json").unlink()


def lose_all(made: Path) -> None:
    for file in made.iterdir():
        file.unlink()


def lose_the_proof_s_end(made: Path) -> None:
    (made / PROOF).write_text((made / PROOF).read_text()[:20])


@pytest.mark.parametrize("lose", [lose_a_part, lose_a_file, lose_all, lose_the_proof_s_end])
def test_a_model_that_is_no_longer_whole_is_made_anew_once(
    folder: Path, lose: Callable[[Path], None], capfd: pytest.CaptureFixture[str]
) -> None:
    was = sorted(path.name for path in resolve("small").iterdir())
    assert capfd.readouterr().err.endswith("small, once\n")
    lose(folder / "small")
    assert fetched("small") is None
    assert main(["models", "--json"]) == 0
    assert {"model": "small", "what": "real weights", "folder": "(not fetched)"} in json.loads(capfd.readouterr().out)
    assert resolve("small") == resolve("small") == fetched("small") == folder / "small"
    assert sorted(path.name for path in (folder / "small").iterdir()) == was
    assert (folder / "small" / "small.gguf").read_bytes() == GGUF
    assert made(folder) == ["small"]
    [said] = capfd.readouterr().err.splitlines()
    assert said.endswith("small, anew, since it is not whole")


def test_a_model_that_can_not_be_made_anew_leaves_what_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lose_a_part(resolve("small"))
    monkeypatch.setattr(models, "CONVERT", (sys.executable, "-c", FAIL))
    with pytest.raises(EngineError, match=r"no such layer$"):
        resolve("small")
    assert made(folder) == ["small"]
    assert (folder / "small" / "small.gguf").read_bytes() == GGUF[:3]


@pytest.mark.parametrize("lost", [None, "model.safetensors", "tokenizer.json", "config.json"])
def test_a_model_without_a_proof_is_taken_if_it_can_be_read(folder: Path, tiny_model: Path, lost: str | None) -> None:
    """Versions before this one left none."""
    shutil.copytree(tiny_model, folder / "small")
    if lost:
        whole = (folder / "small" / lost).read_bytes()
        (folder / "small" / lost).write_bytes(whole[: len(whole) // 2])
    assert (resolve("small") / "small.gguf").exists() == (lost is not None)
    assert made(folder) == ["small"]


@pytest.mark.parametrize("said", [None, "", "{"])
def test_a_shape_that_lost_its_config_is_made_anew(folder: Path, said: str | None) -> None:
    config = resolve("qwen3-0.6b") / "config.json"
    whole = config.read_text()
    config.unlink() if said is None else config.write_text(said)
    assert (resolve("qwen3-0.6b") / "config.json").read_text() == whole
    assert made(folder) == ["shape-qwen3-0.6b"]


def test_a_failed_conversion_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "CONVERT", (sys.executable, "-c", FAIL))
    with pytest.raises(EngineError, match=r"can not convert .*small\.gguf: no such layer$"):
        resolve("small")
    assert made(folder) == []


def test_another_file_of_that_name_is_refused(folder: Path) -> None:
    (folder / "small.gguf").write_bytes(b"other")
    with pytest.raises(EngineError, match=r"small\.gguf is not the file it should be"):
        resolve("small")
    assert made(folder) == []


def test_what_a_killed_process_left_is_removed(folder: Path) -> None:
    (folder / ".small-killed").mkdir()
    (folder / ".small-killed" / "part").write_bytes(b"half")
    resolve("small")
    assert made(folder) == ["small"]


def test_what_can_not_be_fetched_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    (folder / "small.gguf").unlink()
    with pytest.raises(EngineError, match=r"can not fetch no-such-package==1 \(put small\.gguf into .*models, or name"):
        resolve("small")
    assert made(folder) == []


def test_a_folder_that_can_not_be_made_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "file"))
    with pytest.raises(EngineError, match=r"can not keep 'smollm2' in .*file/models: Not a directory"):
        resolve("smollm2")


@pytest.mark.parametrize("is_broken", [False, True])
def test_two_processes_make_it_once(folder: Path, tmp_path: Path, is_broken: bool) -> None:
    if is_broken:
        lose_a_part(resolve("small"))
    count = f"open({str(tmp_path / 'count')!r}, 'a').write('x'); import time; time.sleep(0.5); {COPY}"
    program = (
        "import sys; from workbench.config import models\n"
        f"models.MODELS['small'] = models.PackagedModel('none', 'small.gguf', {hashlib.sha256(GGUF).hexdigest()!r})\n"
        f"models.CONVERT = (sys.executable, '-c', {count!r})\n"
        "print(models.resolve('small'))"
    )
    both = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in both] == [str(folder / "small")] * 2
    assert (tmp_path / "count").read_text() == "x"
    assert (folder / "small" / "small.gguf").read_bytes() == GGUF


def test_a_folder_of_the_user_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    assert resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("smolm2", "there is no model or folder 'smolm2': did you mean 'smollm2'?"),
        ("/nowhere", "there is no model or folder '/nowhere'"),
        ("", "is no model folder: it has no config.json"),
        ("a\0b", "there is no model or folder 'a\\x00b'"),
        ("~nosuch/x", "there is no model or folder '~nosuch/x'"),
        ("x" * 5000, "there is no model or folder 'xxx"),
        ("a/" + "x" * 5000, "there is no model or folder 'a/xxx"),
    ],
)
def test_what_is_no_model_is_refused(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refused:
        resolve(name)
    assert message in str(refused.value)
    assert isinstance(refused.value, WorkbenchError)
    assert len(str(refused.value)) < 250


def test_a_name_that_no_hub_can_have_is_refused() -> None:
    with pytest.raises(EngineError, match=r"^there is no folder 'a\.\.b/c', and no hub that gives it: Cannot have"):
        resolve("a..b/c")


def test_a_model_of_the_hub_without_weights_that_can_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(tmp_path))
    with pytest.raises(EngineError, match=r"^'some/model' has no weights as safetensors on the hub"):
        resolve("some/model")
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert resolve("some/model") == tmp_path


def test_a_model_whose_weights_are_missing_is_no_shape(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match="has a tokenizer and no weights: get the model again"):
        resolve(str(tmp_path))
    (tmp_path / "tokenizer.json").unlink()
    assert resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("weights", ["model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"])
def test_a_model_whose_tokenizer_is_missing_is_no_shape(weights: str, tmp_path: Path) -> None:
    for name in ("config.json", "tokenizer.model", weights):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UsageError, match=r"has weights and no tokenizer\.json: get the model again, or have"):
        resolve(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    assert resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["smollm2-135m", "qwen3-0.6b", "llama-3.2-1b"])
def test_a_shape_has_a_config_and_no_weights(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    folder = resolve(name)
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] > 0
    assert not has_weights(folder)


@pytest.mark.parametrize("engine", engines())
def test_more_length_than_the_model_was_made_for_is_refused(engine: str, tiny_model: Path) -> None:
    config = EngineConfig(engine=engine, model=str(tiny_model))
    assert model_folder(config.with_setting("limits.max_length", 128)) == tiny_model
    with pytest.raises(UsageError, match=r"limits\.max_length 129 is more than the 128 tokens that .*: lower it, or"):
        model_folder(config.with_setting("limits.max_length", 129))


def test_a_model_that_does_not_tell_its_length_has_no_bound(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    config = EngineConfig(engine="vllm", model=str(tmp_path)).with_setting("limits.max_length", 10**6)
    assert model_folder(config) == tmp_path
