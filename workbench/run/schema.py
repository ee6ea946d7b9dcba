"""The tables of a run: their columns, what each means, and the version they are of.

While a run is written a table is an Arrow stream (`events.arrow`); names are then small numbers that `names.arrow`
resolves. A finished run has Parquet files (`events.parquet`) in which names are plain text.
"""

from __future__ import annotations

import pyarrow as pa

TEXT = pa.dictionary(pa.int32(), pa.string())

KINDS = ("alloc", "free")
LAYERS = ("driver", "allocator", "host")
TIERS = ("gpu", "pinned", "pageable")
DIRECTIONS = ("host to device", "device to host", "device to device", "host to host", "peer")

EVENTS = pa.schema(
    [
        ("time_ns", pa.int64()),  # since the run's start, on the run's one clock
        ("kind", TEXT),  # alloc | free
        ("layer", TEXT),  # driver | allocator | host: who handed the bytes out
        ("tier", TEXT),  # gpu | pinned | pageable: where they live
        ("owner", TEXT),  # the library or subsystem that asked
        ("tag", TEXT),  # what they are for; null: nobody said
        ("bytes", pa.int64()),  # taken
        ("asked", pa.int64()),  # requested; differs from `bytes` by rounding
        ("address", pa.uint64()),
        ("device", pa.int16()),  # -1: the host
        ("stream", pa.uint64()),
        ("process", pa.int32()),
        ("thread", pa.int32()),  # 0: not known
        ("stack", pa.int32()),  # of the allocation; a key of `stacks`, 0: none
    ]
)

STACKS = pa.schema(
    [
        ("stack", pa.int32()),
        ("frames", pa.list_(TEXT)),  # "file:line function", innermost first
    ]
)

PHASES = pa.schema(
    [
        ("name", pa.string()),
        ("start_ns", pa.int64()),
        ("end_ns", pa.int64()),  # null: the run ended inside it
        ("process", pa.int32()),
        ("depth", pa.int16()),  # 0: not inside another phase
    ]
)

TOTALS = pa.schema(
    [
        ("time_ns", pa.int64()),
        ("process", pa.int32()),  # 0: of the whole device or host
        ("tier", TEXT),
        ("device", pa.int16()),
        ("name", TEXT),  # what was read: used, private, resident; or `held`: the resident part of one owner
        ("owner", TEXT),  # of `held` rows
        ("tag", TEXT),  # of `held` rows
        ("bytes", pa.int64()),  # holds until the next row of the same key
    ]
)

COPIES = pa.schema(
    [
        ("time_ns", pa.int64()),  # when it was submitted, to a us, or where that is not known, when it began
        ("handed_ns", pa.int64()),  # when it was handed on to the driver; null: not known
        ("call_ns", pa.int64()),  # how long that call took; null: not known
        ("start_ns", pa.int64()),  # on the device; null: not recorded
        ("end_ns", pa.int64()),  # on the device; null: not recorded
        ("bytes", pa.int64()),
        ("direction", TEXT),
        ("device", pa.int16()),
        ("stream", pa.uint64()),
        ("process", pa.int32()),
    ]
)

TOKENS = pa.schema(
    [
        ("time_ns", pa.int64()),
        ("request", pa.int32()),
        ("position", pa.int32()),  # of the first of them in the request's output, from 0
        ("count", pa.int32()),
    ]
)

REQUESTS = pa.schema(
    [
        ("request", pa.int32()),
        ("arrived_ns", pa.int64()),  # when its workload's phase had begun, its prompt being tokens already
        ("started_ns", pa.int64()),  # when it was first in a step; null: never
        ("ended_ns", pa.int64()),
        ("prompt_tokens", pa.int32()),
        ("answer_tokens", pa.int32()),
        ("end", TEXT),  # stop | length | cancelled
    ]
)

STEPS = pa.schema(
    [
        ("start_ns", pa.int64()),
        ("end_ns", pa.int64()),
        ("tokens", pa.int32()),  # that went through the model
        ("requests", pa.int32()),  # in the batch
        ("waiting", pa.int32()),  # requests
        ("blocks", pa.int32()),  # of the KV cache, in use
        ("all_blocks", pa.int32()),  # that there are
    ]
)

TABLES = {
    "events": EVENTS,
    "stacks": STACKS,
    "phases": PHASES,
    "totals": TOTALS,
    "copies": COPIES,
    "tokens": TOKENS,
    "requests": REQUESTS,
    "steps": STEPS,
}

SINCE = {"requests": 2, "steps": 2}
"""The version that a table is there from, where it is not 1: a run of an older one has none of its rows."""
