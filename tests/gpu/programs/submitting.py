"""Where the time of a submission goes, and what would take less: python submitting.py [native [DRIVER] | streams]

`native`: each call of the driver that a submission makes, by how many are in flight and on how many streams, in turn
with variants that save calls, fetch what they need ahead, or leave them to a thread. `streams`: the same of the
product's `Streams.submit`. Without an argument both, each again with its memory in huge pages, and `streams` recorded.
Microseconds. `cold`: 16 MiB of other memory were read just before. p99 is of each repeat.
"""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
WAIT, BEGIN, COPY, END, FETCH, FETCH_NEXT, ANYWHERE, BATCH = (1 << bit for bit in range(8))
ALL = WAIT | BEGIN | COPY | END
PARTS = ("wait", "begin", "copy", "end")
SIZE, COLD_BYTES = 4096, 16 << 20
REPEATS, CALLS, UNCOUNTED = 3, 3000, 2  # calls of a repeat; rounds before it
SLOW_ROUNDS = 150  # of those that are made cold or idle or have a thread, at most
ALONE_MS = 1  # that nothing happens before each of those that are the only one in flight
RELEASED_S = 60  # from where on nothing is held back any more, whatever happens
NON_BLOCKING, UNTIMED, ON_ALL_DEVICES = 1, 2, 3
PLAIN = "SUBMITTING_PLAIN"  # set where up to 100,000 are in flight
HUGE = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "PYTHONMALLOC": "malloc"}

Ints = npt.NDArray[np.uint64]
CALL = np.dtype(
    [(name, np.uint64) for name in ("stream", "awaited", "begin", "end", "to", "from", "bytes", "way")]
    + [("ns", np.uint64, 5)]
)


@dataclass(frozen=True)
class Variant:
    """A way to hand a copy on."""

    name: str
    parts: int = ALL
    is_timed: bool = True  # whether the event at its end is
    thread: bool | None = None  # one hands on: it sleeps while there is nothing to do, or it does not


AS_IS = Variant("as is")
VARIANTS = (
    AS_IS,
    Variant("no begin", ALL & ~BEGIN),
    Variant("no begin, no times", ALL & ~BEGIN, is_timed=False),
    Variant("no wait", ALL & ~WAIT),
    Variant("copy and end", COPY | END),
    Variant("the copy alone", COPY),
    Variant("fetched first", ALL | FETCH),
    Variant("the next one fetched", ALL | FETCH_NEXT),
    Variant("no begin, next fetched", ALL & ~BEGIN | FETCH_NEXT),
    Variant("cuMemcpyAsync", ALL | ANYWHERE),
    Variant("cuMemcpyBatchAsync", ALL | BATCH),
    Variant("a thread, spinning", thread=False),
    Variant("a thread, sleeping", thread=True),
)
OF_ONE = tuple(
    each for each in VARIANTS if each.thread is not None or each.name in ("as is", "no begin", "the copy alone")
)


class RefusedError(Exception):
    """The driver has or does something not."""


class Driver:
    """The driver, what of it a round needs, and the native part."""

    def __init__(self, path: str) -> None:
        try:
            self._cuda = ctypes.CDLL(path)
        except OSError as error:
            raise SystemExit(f"a CUDA driver is needed: {error}") from None
        self.native = _built()
        self._check(self.native.probe_open(path.encode()), "probe_open")
        self.call("cuInit", 0)
        self.context = self._made("cuDevicePrimaryCtxRetain", 0)
        self.call("cuCtxSetCurrent", self.context)
        self.gate = self._made("cuMemHostAlloc", ctypes.c_size_t(SIZE), ON_ALL_DEVICES)
        self.word = ctypes.c_uint32.from_address(self.gate.value or 0)
        self.compute = self.stream()
        self.step = self.event()
        self._cold = np.ones(COLD_BYTES, np.uint8)
        self._rounds = 0

    def call(self, name: str, *arguments: object) -> None:
        self._check(getattr(self._cuda, name)(*arguments), name)

    def stream(self) -> ctypes.c_uint64:
        return self._made("cuStreamCreate", NON_BLOCKING)

    def event(self, is_timed: bool = True) -> ctypes.c_uint64:
        return self._made("cuEventCreate", 0 if is_timed else UNTIMED)

    def memory(self, size: int) -> tuple[int, int]:
        """As much on the host and on the device."""
        host = self._made("cuMemHostAlloc", ctypes.c_size_t(size), ON_ALL_DEVICES)
        return host.value, self._made("cuMemAlloc_v2", ctypes.c_size_t(size)).value

    @contextmanager
    def step_of_compute(self) -> Iterator[None]:
        """A step that what is handed on inside waits for, over when the block is."""
        self._rounds += 1
        self.call("cuStreamWaitValue32_v2", self.compute, self.gate, self._rounds, 0)
        self.call("cuEventRecord", self.step, self.compute)
        try:
            yield
        finally:
            self.word.value = max(self.word.value, self._rounds)
            self.call("cuCtxSynchronize")

    def cool(self) -> None:
        self.native.probe_cool(self._cold.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(COLD_BYTES))

    def clock_ns(self) -> float:
        """What reading the clock takes."""
        return float(self.native.probe_clock(ctypes.c_uint64(100_000))) / 100_000

    def _made(self, name: str, *arguments: object) -> ctypes.c_uint64:
        made = ctypes.c_uint64()
        self.call(name, ctypes.byref(made), *arguments)
        return made

    def _check(self, status: int, name: str) -> None:
        if status:
            raise RefusedError(f"{name}: the driver answered {status}")


def _built() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "submitting.so"
        source = str(HERE / "submitting.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-std=gnu11", source, "-o", str(made), "-ldl"], check=True)
        native = ctypes.CDLL(str(made))
    native.probe_clock.restype = native.probe_cool.restype = ctypes.c_uint64
    return native


class Calls:
    """Half of them loads and half of them stores, each with a block of its own, on so many streams a direction."""

    def __init__(self, driver: Driver, count: int, streams: int) -> None:
        self.driver, self.count = driver, count
        self.rows = np.zeros(count, CALL)
        each = [[driver.stream().value for _ in range(min(streams, (count + 1) // 2))] for _ in range(2)]
        host, device = driver.memory(count * SIZE)
        for number, row in enumerate(self.rows):
            way, at = number % 2, number * SIZE
            ends = (device + at, host + at) if way == 0 else (host + at, device + at)
            row["stream"] = each[way][number // 2 % len(each[way])]
            row["to"], row["from"], row["bytes"], row["way"] = *ends, SIZE, 1 - way
        self.rows["awaited"] = driver.step.value
        self.rows["begin"] = [driver.event().value for _ in self.rows]
        self._ends = {timed: [driver.event(timed).value for _ in self.rows] for timed in (True, False)}
        self._took, self._until_on = np.zeros((2, count), np.uint64)

    def hand_on(self, variant: Variant, before: Callable[[], None]) -> Ints:
        """A round; gives the ns of each call: of its parts, and in all."""
        driver, native = self.driver, self.driver.native
        self.rows["end"] = self._ends[variant.is_timed]
        rows, count = self.rows.ctypes.data_as(ctypes.c_void_p), ctypes.c_uint64(self.count)
        with driver.step_of_compute():
            before()
            if variant.thread is None:
                driver._check(native.probe_hand_on(rows, count, variant.parts), variant.name)
                return np.array(self.rows["ns"])
            if native.probe_thread_begin(driver.context, int(variant.thread), variant.parts):
                raise SystemExit("no thread could be started")
            time.sleep(0.001)
            given = [each.ctypes.data_as(ctypes.c_void_p) for each in (self._took, self._until_on)]
            native.probe_hand_over(rows, count, *given)
            driver._check(native.probe_thread_end(), variant.name)
            return np.column_stack([self.rows["ns"][:, :3], self._until_on, self._took])


def native(path: str) -> None:
    """Print what each part takes."""
    driver = Driver(path)
    release = threading.Timer(RELEASED_S, lambda: setattr(driver.word, "value", 1 << 30))
    release.daemon = True
    release.start()
    print(f"\nnative, {about()}, reading the clock {driver.clock_ns():.0f} ns")
    print(f"{'us':57} p50     p90   p99 of each repeat        max | p50 and p99 of {', '.join(PARTS)}")
    print("(of a thread, `end` is the time until it has handed on)")
    for in_flight in (1, 100, 1000):
        for name, streams in (("two", 1), ("32 a way", 32), ("one each", in_flight)):
            if in_flight <= 300 * streams and (in_flight > 1 or name == "one each"):
                _rows_of(Calls(driver, in_flight, streams), f"{in_flight:4} in flight, {name:8}")


def _rows_of(calls: Calls, name: str) -> None:
    ways: dict[str, Callable[[], None]] = {"warm": lambda: None, "cold": calls.driver.cool}
    if calls.count == 1:
        ways["idle"] = lambda: time.sleep(ALONE_MS / 1000)
    variants = {1: OF_ONE, 1000: VARIANTS}.get(calls.count, VARIANTS[:2])
    found: dict[tuple[str, str], list[Ints]] = {}
    for _ in range(REPEATS):
        for variant in variants:
            for way, before in ways.items():
                is_slow = way != "warm" or variant.thread is not None
                rounds = min(-(-CALLS // calls.count), SLOW_ROUNDS if is_slow else CALLS)
                try:
                    ns = [calls.hand_on(variant, before) for _ in range(UNCOUNTED + rounds)][UNCOUNTED:]
                except RefusedError as refused:
                    print(f"{name}, {way:4}: {refused}")
                    continue
                found.setdefault((variant.name, way), []).append(np.concatenate(ns))
    for (variant_name, way), repeats in found.items():
        print(line(f"{name}, {way:4}, {variant_name}", [each[:, 4] for each in repeats], np.concatenate(repeats)))


def line(name: str, repeats: Sequence[Ints], parts: Ints | None = None) -> str:
    """What all calls took, and their parts."""
    every = np.concatenate(repeats)
    p99 = " ".join(f"{np.quantile(each, 0.99) / 1000:6.2f}" for each in repeats)
    p50, p90 = (np.quantile(every, part) / 1000 for part in (0.5, 0.9))
    said = f"{name:55} {p50:6.2f} {p90:6.2f}   {p99}  {every.max() / 1000:8.1f}"
    if parts is None:
        return said
    each = (f"{np.quantile(part, 0.5) / 1000:5.2f} {np.quantile(part, 0.99) / 1000:6.2f}" for part in parts.T[:4])
    return f"{said} | {' | '.join(each)}"


def about() -> str:
    """On what."""
    models = [
        row.split(":")[1].strip() for row in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in row
    ]
    source = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
    clock = source.read_text().strip() if source.exists() else "unknown"
    pages = "huge pages" if "hugetlb" in os.environ.get("GLIBC_TUNABLES", "") else "pages as they come"
    return f"{pages}, {len(models)} x {models[0] if models else platform.machine()}, clock {clock}"


def everything() -> int:
    """Each part in a process of its own."""
    from submitting_streams import recorded  # type: ignore[import-not-found]

    python = [sys.executable, __file__]
    codes = [
        subprocess.run([*python, part], env=os.environ | more, check=False).returncode
        for part, more in (("native", {}), ("streams", {PLAIN: "1"}), ("native", HUGE), ("streams", HUGE))
    ]
    codes.append(recorded([*python, "streams"]))
    return max(codes)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    if part == "native":
        native(sys.argv[2] if len(sys.argv) > 2 else "libcuda.so.1")
    elif part == "streams":
        from submitting_streams import measure

        measure()
    else:
        sys.exit(everything())
