"""What streams on a real device are and give back, as JSON: streams.py distinct|rounds|failures|thread|fork"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path

import torch

from workbench.errors import WorkbenchError
from workbench.mechanisms.streams.cuda_device import cuda_streams
from workbench.mechanisms.streams.device import DeviceError
from workbench.mechanisms.streams.values import Bounded, PerTransfer, Single, Value
from workbench.mechanisms.streams.work import Block, Transfer, blocks_of

MANY = 64  # torch has 32
SIZE = 4096
SLEEP = 100_000_000  # cycles, some 50 ms


def seconds_of_sleeps(streams: list[torch.cuda.Stream]) -> float:
    """How long one sleeping kernel on each stream takes, all together."""
    for cycles in (1000, SLEEP):  # the first time they come to life
        torch.cuda.synchronize()
        start = time.perf_counter()
        for stream in streams:
            with torch.cuda.stream(stream):
                torch.cuda._sleep(cycles)  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
    return time.perf_counter() - start


def distinct() -> dict[str, object]:
    """Whether transfers in flight are on as many streams, and these run as many kernels at a time."""
    torchs = [torch.cuda.Stream() for _ in range(MANY)]  # type: ignore[no-untyped-call]
    with cuda_streams(PerTransfer(limit=MANY)) as streams:
        each = transfers(MANY)
        with streams.compute(writes=[transfer.target for transfer in each]):
            torch.cuda._sleep(SLEEP)  # type: ignore[no-untyped-call]
        for transfer in each:  # all of them wait for the compute, so none has a stream of one that is over
            streams.submit(transfer)
        while streams.poll():
            pass
        made = {transfer.result.stream for transfer in each if transfer.result}
        ours: list[torch.cuda.Stream] = [torch.cuda.ExternalStream(stream) for stream in made]  # type: ignore[no-untyped-call]
        return {
            "ours": len(made),
            "torchs": len({stream.cuda_stream for stream in torchs}),
            "one_s": seconds_of_sleeps(ours[:1]),
            "ours_s": seconds_of_sleeps(ours),
            "torchs_s": seconds_of_sleeps(torchs),
        }


def transfers(count: int) -> list[Transfer]:
    host = torch.zeros(count * SIZE, dtype=torch.uint8, pin_memory=True)
    cache = torch.zeros(count * SIZE, dtype=torch.uint8, device="cuda")
    return [Transfer(*ends) for ends in zip(blocks_of(host, SIZE), blocks_of(cache, SIZE), strict=True)]


def held() -> dict[str, int]:
    """What this process and the device hold."""
    lines = Path("/proc/self/status").read_text().splitlines()
    private = next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon"))
    free, total = torch.cuda.mem_get_info()
    files, shared = (len(os.listdir(folder)) for folder in ("/proc/self/fd", "/dev/shm"))
    return {"private": private, "device": total - free, "files": files, "shared": shared}


def rounds() -> dict[str, object]:
    """What is held before and after opening, using and closing streams a thousand times over."""
    each: list[Value] = [Single(), PerTransfer(limit=8), Bounded(limit=4, depth=4), PerTransfer(8, has_thread=False)]
    some = transfers(20)
    before = {}
    for number in range(1100):
        if number == 100:
            before = held()
        with cuda_streams(each[number % 4]) as streams:
            for transfer in some:
                streams.submit(transfer)
    return {"before": before, "after": held()}


def failures() -> dict[str, object]:
    """What a thousand transfers that fail in the middle leave on the device, and whether others go on."""
    [good] = transfers(1)
    bad = Transfer(Block(0, SIZE, on_device=False), good.target)
    failed = 0
    good.source.memory.fill_(7)  # type: ignore[attr-defined]
    with cuda_streams(PerTransfer()) as streams:
        streams.wait(streams.submit(good))
        before = held()["device"]
        for _ in range(1000):
            try:
                streams.wait(streams.submit(bad))
            except DeviceError:
                failed += 1
        good.target.memory.zero_()  # type: ignore[attr-defined]
        torch.cuda.synchronize()
        streams.wait(streams.submit(good))
        left = held()["device"] - before
    arrived = int(good.target.memory.min())  # type: ignore[attr-defined]
    return {"failed": failed, "left": left, "arrived": arrived}


def thread() -> dict[str, object]:
    """What arrives of a transfer that another thread submits than the one that made the streams."""
    [transfer] = transfers(1)
    transfer.source.memory.fill_(7)  # type: ignore[attr-defined]
    with cuda_streams(Single()) as streams:
        submitting = threading.Thread(target=lambda: streams.wait(streams.submit(transfer)))
        submitting.start()
        submitting.join()
    return {"arrived": int(transfer.target.memory.min())}  # type: ignore[attr-defined]


def fork() -> dict[str, object]:
    """What a fork is told, and whether its parent goes on."""
    [transfer] = transfers(1)
    reading, writing = os.pipe()
    with cuda_streams(PerTransfer()) as streams:
        if not os.fork():
            try:
                streams.submit(transfer)
            except WorkbenchError as error:
                os.write(writing, str(error).encode())
            os._exit(0)
        os.wait()
        streams.wait(streams.submit(transfer))
    os.close(writing)
    return {"said": os.read(reading, 1000).decode()}


if __name__ == "__main__":
    each = {"distinct": distinct, "rounds": rounds, "failures": failures, "thread": thread, "fork": fork}
    print(json.dumps(each[sys.argv[1]]()))
