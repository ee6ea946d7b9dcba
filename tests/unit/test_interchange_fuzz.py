"""Whatever is in a file: an import, or one clear line; never another exception, never for long, never code."""

from __future__ import annotations

import pickle
import random
import sys
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.interchange_samples import FRAMES, entry, random_snapshot, snapshot
from workbench.errors import WorkbenchError
from workbench.run.interchange import read_snapshot

LONGEST_S = 5.0
ROUNDS = 1500
INSTRUCTIONS = (
    b"}]()lduesaNMKJ\x8a\x8cX\x95\x94qrhjt\x85\x86\x87\x88\x89G.2c\x93R\x81ib0\x82\x8b\x8d\x8e\x96BCTUVISFL\x8f\x90\x91"
)
WRONG: list[object] = [
    None,
    True,
    -1,
    1 << 63,
    1 << 70,
    1.5,
    float("nan"),
    "",
    "x",
    [],
    {},
    [[]],
    [{}],
    {"frames": 3},
    (1, 2),
]


def survives(path: Path, data: bytes) -> bool:
    """Whether `data` was imported; a refusal must be one line, and both must be quick."""
    path.write_bytes(data)
    begun = time.monotonic()
    message = ""
    try:
        read_snapshot(path)
    except WorkbenchError as error:
        message = str(error)
    assert "\n" not in message
    assert time.monotonic() - begun < LONGEST_S
    return not message


@pytest.fixture
def no_new_code() -> Iterator[list[str]]:
    """Names of what an unpickling could start; the test ends if one is called."""
    called: list[str] = []
    armed = ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class")

    def watch(event: str, _: object) -> None:
        if event in armed and watching:
            called.append(event)

    watching = [True]
    sys.addaudithook(watch)
    yield called
    watching.clear()


@pytest.mark.parametrize("protocol", [2, 4])
def test_mutated_files(tmp_path: Path, protocol: int, no_new_code: list[str]) -> None:
    chance = random.Random(protocol)
    good = pickle.dumps(random_snapshot(1, 40), protocol=protocol)
    outcomes = [survives(tmp_path / "x", _mutated(chance, good)) for _ in range(ROUNDS)]
    assert 0 < sum(outcomes) < ROUNDS, "mutations must reach past the first check, and some must break the file"
    assert not no_new_code


def _mutated(chance: random.Random, data: bytes) -> bytes:
    """`data` with bytes flipped, cut, doubled, or replaced by pickle instructions."""
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(2, len(changed))
        match chance.randrange(6):
            case 0:
                changed[at] = chance.randrange(256)
            case 1:
                changed[at] = chance.choice(INSTRUCTIONS)
            case 2:
                changed[at : at + chance.randrange(1, 9)] = chance.randbytes(chance.randrange(9))
            case 3:
                del changed[at : at + chance.randrange(1, 40)]
            case 4:
                changed[at:at] = changed[at : at + chance.randrange(1, 200)]
            case 5:
                changed[at:at] = chance.choice(
                    [b"cos\nsystem\n(X\x02\x00\x00\x00lstR", b"\x8c\x02os\x8c\x06system\x93", b"2a"]
                )
    return bytes(changed)


@given(st.binary(max_size=300))
@settings(max_examples=300, deadline=None)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    survives(tmp_path_factory.getbasetemp() / "any", b"\x80\x04" + data)


@given(
    st.lists(
        st.sampled_from([bytes([code]) for code in INSTRUCTIONS] + [b"K\x01", b"\x8c\x01a", b"h\x00"]), max_size=60
    )
)
@settings(max_examples=500, deadline=None)
def test_any_program(tmp_path_factory: pytest.TempPathFactory, program: list[bytes]) -> None:
    survives(tmp_path_factory.getbasetemp() / "program", b"\x80\x04" + b"".join(program) + b".")


def test_any_value_in_any_place(tmp_path: Path) -> None:
    chance = random.Random(0)
    outcomes = [survives(tmp_path / "x", pickle.dumps(_misplaced(chance), protocol=4)) for _ in range(ROUNDS)]
    assert 0 < sum(outcomes) < ROUNDS


def _misplaced(chance: random.Random) -> object:
    """A snapshot in which one value, anywhere, is a wrong one or gone."""
    marks = [{"name": "a", "stage": stage, "device": 0, "time_us": 5} for stage in ("START", "END")]
    whole = random_snapshot(chance.randrange(5), 12) | {"external_annotations": marks}
    whole["device_traces"][0].append(entry("oom", 99, 0, 1, device_free=1))
    whole["places"] = [{"device": 0, "process": 1}]
    whole = deepcopy(whole)  # the frames are shared with every other snapshot
    node: object = whole
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))  # type: ignore[arg-type]
        key = chance.choice(keys)
        below = node[key]  # type: ignore[index]
        if not isinstance(below, dict | list) or not below or chance.random() < 0.1:
            break
        node = below
    if chance.random() < 0.2:
        del node[key]  # type: ignore[attr-defined]
    else:
        node[key] = deepcopy(chance.choice(WRONG))  # type: ignore[index]
    return whole


def test_many_collisions_stay_quick(tmp_path: Path) -> None:
    """Thousands of overlapping segments, unmatched ends of annotations, and different stacks."""
    maps = [entry("segment_map", n, 1 << 21, n << 21) for n in range(1, 20_000)]
    ends = [{"name": f"n{n}", "stage": "END", "device": 0, "time_us": n} for n in range(20_000)]
    stacks = [entry("alloc", n, n << 9, frames=FRAMES * (n % 50)) for n in range(20_000)]
    assert survives(tmp_path / "x", pickle.dumps(snapshot([maps, stacks], [], external_annotations=ends)))
