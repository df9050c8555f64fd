"""Copies between host and device: how fast they are, by which way, and with how many threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial

import numpy
from gpu_probe_table import GB, MB, SIZES, Probe, best, clock

from dispatcharr.devices import staging
from dispatcharr.devices.device import Memory
from dispatcharr.devices.staging import Lane

__all__ = ["transfers"]


def transfers(p: Probe) -> None:
    device = p.device
    big = GB
    target, host, fresh = device.alloc(big), numpy.ones(big, numpy.uint8), None
    device.to_device(target, 0, host[: 64 * MB])  # makes the rings
    device.to_host(host[: 64 * MB], target, 0)
    scratch = numpy.ones(big, numpy.uint8)
    p.note("memcpy, one thread", big / best(lambda: numpy.copyto(scratch, host), 2) / 1e9, "GB/s")
    began = clock()
    pinned = device.handle("cuMemHostAlloc", big, 1)
    p.note("pinning", (clock() - began) / big * 1e9, "s/GB")

    def plain(name: str, *arguments: int) -> None:
        device.call(name, *arguments, device.stream)
        device.call("cuStreamSynchronize", device.stream)

    into, out = "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2"
    start_of = int(host.ctypes.data)
    for label, n in SIZES.items():
        repeats = 100 if n <= MB else 3
        part = host[:n]
        ways: dict[str, Callable[[], None]] = {
            "in pageable": lambda n=n: plain(into, target.address, start_of, n),
            "in pinned": lambda n=n: plain(into, target.address, pinned, n),
            "in ours": lambda part=part: device.to_device(target, 0, part),
            "out pageable": lambda n=n: plain(out, start_of, target.address, n),
            "out pinned": lambda n=n: plain(out, pinned, target.address, n),
            "out ours": lambda part=part: device.to_host(part, target, 0),
        }
        for way, act in ways.items():
            seconds = best(act, repeats)
            p.note(f"{way} {label}", seconds * 1e6, "us")
            if n >= MB:
                p.note(f"{way} {label}", n / seconds / 1e9, "GB/s")
    for label in ("64 MB", "1 GB"):
        fresh = numpy.empty(SIZES[label], numpy.uint8)
        seconds = best(partial(device.to_host, fresh, target, 0), 1)
        p.note(f"out ours {label}, fresh memory", SIZES[label] / seconds / 1e9, "GB/s")
    device.call("cuMemFreeHost", pinned)
    p.save()
    hands(p, target, host)
    both_ways(p, target, host)


def hands(p: Probe, target: Memory, host: numpy.ndarray) -> None:
    """Measure how many threads, and buffers how large, a long copy wants."""
    device, address = p.device, int(host.ctypes.data)
    for inward in (True, False):
        for count in (1, 2, 4, 6, 8, 12, 16):
            if count > len(os.sched_getaffinity(0)) or p.late(0.5):
                continue
            lane = Lane(device, device.in_stream, device.stream, inward=inward)
            lane._most = count
            lane.copy(target.address, address, 8 * MB)
            for n in (64 * MB, GB):
                seconds = best(partial(lane.copy, target.address, address, n), 2)
                way = "in" if inward else "out"
                p.note(f"{way} by {count} threads, {n // MB} MB", n / seconds / 1e9, "GB/s")
            for ring in lane._rings.values():
                if ring:
                    device.synchronize()
                    device.call("cuMemFreeHost", ring[0].address)
            p.save()
    p.note("threads of a long copy", staging._MOST_HANDS)


def both_ways(p: Probe, target: Memory, host: numpy.ndarray) -> None:
    device, n = p.device, GB // 2
    one = threading.Thread(target=lambda: device.to_device(target, 0, host[:n]))
    other = threading.Thread(target=lambda: device.to_host(host[n:], target, n))
    began = clock()
    one.start()
    other.start()
    one.join()
    other.join()
    p.note("both ways at once, together", 2 * n / (clock() - began) / 1e9, "GB/s")
