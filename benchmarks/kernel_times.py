"""Which kernels a compiled TensorFlow function runs after all rewriting of its graph, and how long each takes."""

from __future__ import annotations

import re
import tempfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tensorflow as tf

AROUND_OTHERS = ("PartitionedCall", "StatefulPartitionedCall", "If", "StatelessIf", "While", "StatelessWhile")
"""Operations whose time is that of the kernels inside."""


@dataclass(frozen=True)
class Kernels:
    """All kernels of one kind.

    Attributes:
        count: how many ran.
        milliseconds: all of them together, in one call.
    """

    count: int
    milliseconds: float


def time_kernels(function: Callable[..., Any], *arguments: Any, calls: int = 3) -> dict[str, Kernels]:
    """Kind of kernel (the operation's name, as ``_MklNativeFusedConv2D``) -> count and time, the slowest first.

    Read from TensorFlow's own profiler, which names what really ran: fused, cast, transposed. Times are means over
    ``calls``; kernels that run side by side add up to more than the call takes.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2  # public in no other way

    function(*arguments)
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        for _ in range(calls):
            function(*arguments)
        tf.profiler.experimental.stop()
        (path,) = Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    found: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for plane in space.planes:
        for event in (event for line in plane.lines for event in line.events):
            match = re.fullmatch(r"[^:]+:(_?[A-Z]\w*)", plane.event_metadata[event.metadata_id].name)
            if match and match[1] not in AROUND_OTHERS:
                found[match[1]][0] += 1
                found[match[1]][1] += event.duration_ps / 1e9
    ordered = sorted(found.items(), key=lambda each: -each[1][1])
    return {kind: Kernels(round(count / calls), spent / calls) for kind, (count, spent) in ordered}
