"""A run whose streams were damaged is read as far as they go, and says so; one that was cut off needs no word."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from tests.unit.builders import unsealed
from workbench.run.run import CUT_OFF, Run
from workbench.run.streams import NAMES, Stream


def _messages(path: Path) -> list[int]:
    """Where each message of a stream begins: the schema, then its batches."""
    whole, places = path.read_bytes(), list[int]()
    with pa.BufferReader(whole) as file:
        while file.tell() < len(whole):
            places.append(file.tell())
            pa.ipc.read_message(file)
    return places


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_stream_that_ends_inside_its_last_message_needs_no_word(tmp_path: Path, cut: int) -> None:
    folder = unsealed(tmp_path, 2)
    path = folder / "events.arrow"
    whole, last = path.read_bytes(), _messages(path)[-1]
    path.write_bytes(whole[: last + (len(whole) - last) * cut // 40])
    assert Run.open(folder).manifest.error == {"what": CUT_OFF}
    assert len(Run.open(folder).events()) == 1


DAMAGES = {  # what is written over a message, and where in it
    "zeros": (0, bytes(64)),
    "foreign": (0, b"no message of any kind"),
    "metadata": (12, b"\x55" * 40),
    "a length that leads behind the end": (4, (1 << 16).to_bytes(4, "little")),
    "a negative length": (4, b"\xff" * 4),
}


@pytest.mark.parametrize("name", ["events", "names"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_stream_that_is_damaged_in_its_middle_says_so_once(tmp_path: Path, name: str, damage: str) -> None:
    folder = unsealed(tmp_path, 6)
    if name == "names":
        names = Stream(folder / "more", NAMES)
        names.write_rows([{"id": number, "text": "later"} for number in range(5, 9)])
        with (folder / "names.arrow").open("ab") as file:
            file.write((folder / "more").read_bytes()[_messages(folder / "more")[1] :])
    path = folder / f"{name}.arrow"
    place, size = _messages(path)[{"events": 3, "names": 1}[name]], path.stat().st_size
    at, content = DAMAGES[damage]
    with path.open("r+b") as file:
        file.seek(place + at)
        file.write(content)
    run, read = Run.open(folder), {"events": 2, "names": 0}[name]
    told = f"the {read} rows before it are read, the {size - place} bytes from there on are not"
    assert run.manifest.error == {"what": f"{CUT_OFF}; {path.name} is damaged at byte {place}: {told}"}
    assert run.events()["bytes"].tolist() == [8] * {"events": 2, "names": 6}[name]
    assert set(run.events()["owner"]) == {"libdemo.so" if name == "events" else "name lost"}
    assert run.table("phases").num_rows == 0


def test_text_that_is_damaged_in_a_whole_batch_is_told_too(tmp_path: Path) -> None:
    folder = unsealed(tmp_path, 2)
    path = folder / "names.arrow"
    path.write_bytes(path.read_bytes().replace(b"libdemo.so", b"libdemo.\xff\xff"))
    assert "names.arrow is damaged at byte" in (Run.open(folder).manifest.error or {})["what"]
    assert set(Run.open(folder).events()["owner"]) == {"name lost"}
