"""What an engine tells about itself while it runs: phases, what memory is for, tokens, steps. All of it is optional."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple, Protocol

HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2


class Copy(NamedTuple):
    """One copy that is over. Times are of the one clock."""

    direction: int
    bytes: int
    device: int
    stream: int
    submitted_ns: int
    handed_ns: int  # on to the driver
    call_ns: int  # that the driver took for it
    began_ns: int  # on the device
    ended_ns: int


class Step(NamedTuple):
    """One forward pass that has ended: a row of the run's table `steps`. Times are of the one clock."""

    start_ns: int
    end_ns: int
    tokens: int  # that went through the model
    requests: int  # in the batch
    waiting: int  # requests
    blocks: int  # of the KV cache, in use while it ran
    all_blocks: int  # that there are


class Probe(Protocol):
    """The narrow thing that an engine reports to. It knows no source, no run and no file."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        """A named interval of the run; at both its edges the ledger is held to the truth."""

    def tag(self, name: str) -> AbstractContextManager[None]:
        """What the memory that this thread asks for inside the block is for; it may be entered again and again."""

    def tokens(self, request: int, position: int, count: int = 1) -> None:
        """That `count` tokens of a request's output came out now, the first of them at `position`."""

    def request(self, **facts: int | str | None) -> None:
        """That a request has ended: the columns of the run's table `requests`, with times on the one clock."""

    def step(self, step: Step) -> None:
        """That a forward pass has ended."""

    def telling(self) -> int:
        """Gives the address of a C function that gives where a byte of the calling thread is; 0: there is none.

        While the byte is 1, nobody else tells of the copies that the thread submits, for `copy` will.
        """

    def copy(self, copy: Copy) -> None:
        """That a copy is over which was submitted as `telling` says; the same object at once again is no other copy."""

    def facts(self, what: str, values: dict[str, object]) -> None:
        """What the engine says of itself that no event shows; kept in the run's manifest under `what`."""


class NullProbe:
    """The probe of a run that nobody records."""

    def phase(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def tag(self, name: str) -> AbstractContextManager[None]:
        return nullcontext()

    def tokens(self, request: int, position: int, count: int = 1) -> None: ...

    def request(self, **facts: int | str | None) -> None: ...

    def step(self, step: Step) -> None: ...

    def telling(self) -> int:
        return 0

    def copy(self, copy: Copy) -> None: ...

    def facts(self, what: str, values: dict[str, object]) -> None: ...
