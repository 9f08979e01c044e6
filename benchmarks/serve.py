"""Load on ``cmcr serve``: many clients at once, for a while; errors, latencies and the server's memory.

    python benchmarks/serve.py SPACE --in MEMORY [--in MEMORY ...] [--clients 200] [--seconds 60] [--think 2]

Each client asks, waits for the answer, and thinks for up to ``--think`` seconds, as a person would. Of its questions,
60 % are texts (each new), 15 % rows, 15 % pictures and sounds of hits, 5 % sums of terms, 5 % uploads of a picture. The
server and the clients share the machine; think less, and they wait in line. The first ten seconds of memory warm up.
"""

import argparse
import asyncio
import contextlib
import io
import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

WORDS = ["red", "blue", "small", "large", "two", "three", "drum", "dog", "bell", "car", "bee", "horn", "cat", "singing"]


def picture(draw: random.Random) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(draw.randrange(1 << 30)).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


class Load:
    """What clients ask, and what became of it."""

    def __init__(self, space: dict[str, Any], options: argparse.Namespace) -> None:
        self.rows = {each["modality"]: each["rows"] for each in space["galleries"]}
        self.options = options
        self.took: dict[str, list[float]] = {}
        self.errors: list[str] = []
        self.until = time.perf_counter() + options.seconds

    def question(self, draw: random.Random) -> tuple[str, str, str, dict[str, Any]]:
        """Return kind, method, path and options of a request."""
        modality, text = draw.choice([*self.rows]), " ".join(draw.sample(WORDS, 4))
        row = f"{modality}/{draw.randrange(self.rows[modality])}"
        asked = {"modality": draw.choice([*self.rows]), "k": 12}
        kind = draw.choices(["text", "row", "media", "sum", "file"], [60, 15, 15, 5, 5])[0]
        if kind == "media":
            pictured = [each for each in self.rows if each != "text"]
            chosen = draw.choice(pictured)
            return kind, "GET", f"/media/{chosen}/{draw.randrange(self.rows[chosen])}", {}
        if kind == "file":
            return kind, "POST", "/search", {"files": {"file": ("a.png", picture(draw))}, "data": asked}
        terms: dict[str, dict[str, Any]] = {
            "text": {"text": text},
            "row": {"row": row},
            "sum": {"terms": [{"text": text}, {"row": row, "sign": -1}]},
        }
        return kind, "POST", "/search", {"json": asked | terms[kind]}

    async def client(self, number: int, http: httpx.AsyncClient) -> None:
        """Ask until the time is up."""
        draw = random.Random(number)
        await asyncio.sleep(draw.random() * self.options.think)
        while time.perf_counter() < self.until:
            kind, method, path, options = self.question(draw)
            begun = time.perf_counter()
            try:
                answer = await http.request(method, path, **options)
                if answer.status_code != 200:
                    self.errors.append(f"{kind}: {answer.status_code} {answer.text[:120]}")
            except httpx.HTTPError as error:
                self.errors.append(f"{kind}: {type(error).__name__} {error}")
            self.took.setdefault(kind, []).append(time.perf_counter() - begun)
            await asyncio.sleep(draw.random() * self.options.think)


def cpu_seconds(process: int) -> float:
    """Return the seconds of processors that a process has used."""
    told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


async def resident(http: httpx.AsyncClient, found: list[tuple[int, int]], until: float) -> None:
    """Note the server's memory every five seconds."""
    while time.perf_counter() < until:
        text = (await http.get("/metrics")).text
        told = dict(re.findall(r"^cmcr_(resident|kept_media)_bytes (\S+)", text, re.M))
        found.append((int(float(told["resident"])) >> 20, int(float(told.get("kept_media", 0))) >> 20))
        await asyncio.sleep(5)


async def measure(address: str, options: argparse.Namespace) -> tuple[Load, list[tuple[int, int]]]:
    async with contextlib.AsyncExitStack() as opened:
        # A pool for each, as browsers have: one pool of all connections looks through every one at each request.
        https = [httpx.AsyncClient(base_url=address, timeout=60, verify=False) for _ in range(options.clients + 1)]
        first, *others = [await opened.enter_async_context(http) for http in https]
        memory: list[tuple[int, int]] = []
        load = Load((await first.get("/space")).json(), options)
        clients = [load.client(number, http) for number, http in enumerate(others)]
        await asyncio.gather(resident(first, memory, load.until), *clients)
    return load, memory


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("space")
    parser.add_argument("--in", dest="memories", action="append", required=True)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--think", type=float, default=2.0)
    options = parser.parse_args()
    given = [word for memory in options.memories for word in ("--in", memory)]
    command = [sys.executable, "-m", "cmcr", "serve", options.space, *given, "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"open (http://\S+)", line):
            break
        print(line, end="", file=sys.stderr)
    else:
        sys.exit("the server did not begin")
    before, begun = cpu_seconds(server.pid), time.process_time()
    try:
        load, memory = asyncio.run(measure(found[1], options))
        used = cpu_seconds(server.pid) - before
    finally:
        server.terminate()
        server.wait()
    total = [each for took in load.took.values() for each in took]
    asked = f"{options.clients} clients, {options.seconds:g} s, thinking up to {options.think:g} s"
    rate = len(total) / options.seconds
    print(f"{asked}: {len(total)} requests, {rate:.0f} a second, {len(load.errors)} errors")
    for kind, took in {"all": total, **dict(sorted(load.took.items()))}.items():
        half, most, last = 1000 * np.percentile(took, [50, 95, 100])
        print(f"{kind:6} {len(took):6} requests  p50 {half:6.0f} ms  p95 {most:6.0f} ms  max {last:6.0f} ms")
    each = [1000 * seconds / len(total) for seconds in (used, time.process_time() - begun)]
    print(f"processor, ms a request: {each[0]:.1f} of the server, {each[1]:.1f} of the clients")
    print(f"memory of the server, every 5 s (MiB, and of it media that are kept): {json.dumps(memory)}")
    for error in load.errors[:5]:
        print(error)


if __name__ == "__main__":
    main()
