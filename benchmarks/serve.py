"""The server beside a bare encode loop, and beside peers that serve the same weights.

    python benchmarks/serve.py [--quick] [--bundle PATH] [--json FILE]
    [--infinity URL,PID] [--clip-server URL,PID]

Server and clients are processes (on separate CPUs if there are two). Rates are items per CPU second
of the server, so that a busy machine and a slow client change little; contenders alternate. Peers
are running servers with the bundle's weights; before anything is timed, their embeddings are
compared with ours. Without --bundle the builtin one is served: its encoder is so small that HTTP
costs as much, so ratios to the bare loop and to peers are judged on larger ones only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from drills.bare import BareLoop
from drills.peers import ClipServer, Infinity, Ours, Peer
from drills.roofline import compare_to_peak
from drills.stage import (
    Connection,
    Server,
    count_cpu_seconds,
    make_photo,
    make_request,
    percentile,
    pin,
    press,
    split_cpus,
)
from drills.turns import measure_rate, measure_times
from report import Report

TEXTS = [f"a photo of thing number {i} in a garden" for i in range(32)]
# Search words beside captions, one in four. Captions stay within twenty tokens: infinity truncates
# texts there, so longer ones would be other texts to it (cosine 0.79 at 73 tokens).
_CAPTION = " beside a small red wooden house with a door and one more window"
MIXED = [f"thing number {i}" + (_CAPTION if i % 4 == 0 else "") for i in range(32)]
IMAGES_16, TEXTS_32, MIXED_32 = "images, 16 a request", "texts, 32 a request", "texts, mixed"
ENCODED = "images, encoded alone"
GEMM = "float32 product 2048^3, GFLOP"
Rates = dict[tuple[str, str], float]  # items per CPU second by (contender, what)
LARGE = 384  # dimensions from which a bundle is large enough to be compared


def main() -> None:
    """Start, compare, measure, report."""
    arguments = _parse()
    rounds, seconds = (2, 1.0) if arguments.quick else (4, 2.0)
    photos = [make_photo(seed=i) for i in range(16)]
    report = Report("serve")
    cpus, rest = split_cpus()
    with ExitStack() as stack:
        stack.enter_context(pin(rest))
        server = stack.enter_context(
            Server(
                f"model={arguments.bundle}",
                "--precision",
                arguments.precisions,
                "--threads",
                "1",
                "--set",
                "batching.cache_bytes=0",
                cpus=cpus,
            )
        )
        bare = stack.enter_context(BareLoop(arguments.bundle, cpus=cpus))
        ours = Ours(f"http://127.0.0.1:{server.port}", server.pid)
        peers: list[Peer] = [ours]
        peers += [Infinity(*_split(arguments.infinity))] if arguments.infinity else []
        peers += [ClipServer(*_split(arguments.clip_server))] if arguments.clip_server else []
        report.row(
            what="cold start to ready, s", contender="twinlens", value=server.seconds_to_ready
        )
        is_large = ours.embed_texts(TEXTS[:1]).shape[1] >= LARGE
        _compare(report, peers, photos)
        rates = measure_throughput(report, peers, bare, photos, rounds, seconds)
        _judge(report, rates, is_large)
        if is_large:
            folder = Path(arguments.bundle)
            compare_to_peak(report, rates, folder, (ENCODED, IMAGES_16, TEXTS_32), TEXTS[0])
        if "int8" in arguments.precisions:
            measure_int8(report, ours, rates, photos, rounds, seconds, is_large)
        if not arguments.rates_only:
            measure_latency(report, ours, photos, seconds)
            measure_zero_shot(report, ours, photos, rounds, seconds, is_large)
            measure_overhead(report, seconds)
    report.finish(arguments.json)


def measure_throughput(
    report: Report,
    peers: list[Peer],
    bare: BareLoop,
    photos: list[bytes],
    rounds: int,
    seconds: float,
) -> Rates:
    """Return items per server CPU second by (contender, what), the median of alternating rounds."""
    found: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for peer in peers:
            for what, ask, items in (
                (IMAGES_16, lambda p=peer: p.embed_images(photos), 16),
                (TEXTS_32, lambda p=peer: p.embed_texts(TEXTS), 32),
                (MIXED_32, lambda p=peer: p.embed_texts(MIXED), 32),
            ):
                rate = measure_rate(peer.pid, ask, items, seconds)
                found.setdefault((peer.name, what), []).append(rate)
        for what, rate in (
            (IMAGES_16, bare.images(photos, seconds)),
            (ENCODED, bare.pixels(photos, seconds)),
            (TEXTS_32, bare.texts(TEXTS, seconds)),
            (GEMM, bare.gemm(seconds / 2)),
        ):
            found.setdefault(("bare loop", what), []).append(rate)
    rates = {key: statistics.median(values) for key, values in found.items()}
    for (name, what), rate in sorted(rates.items(), key=lambda entry: entry[0][::-1]):
        report.row(what=f"{what}, per CPU s", contender=name, value=rate)
    return rates


def measure_latency(report: Report, ours: Ours, photos: list[bytes], seconds: float) -> None:
    """Add p50 and p99 of single images at 1, 4 and 16 clients, and of an image pair."""
    for clients in (1, 4, 16):
        times = measure_times(clients, lambda: ours.embed_images(photos[:1]), seconds)
        for share in (0.5, 0.99):
            value = 1000 * percentile(times, share)
            report.row(
                what=f"one image, {clients} clients, p{share * 100:g}, ms",
                contender="twinlens",
                value=value,
            )
    measure_pair(report, ours, photos, seconds, "fp32")


def measure_pair(
    report: Report, ours: Ours, photos: list[bytes], seconds: float, precision: str
) -> None:
    """Add `/similarity` of an image pair, and its cost beyond two embeds of one image.

    One image and a pair alternate, so that both see the machine at the same speed.
    """
    singles, pairs = [], []
    end = time.monotonic() + 2 * seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        ours.embed_images(photos[:1], precision=precision)
        middle = time.perf_counter()
        ours.compare(photos[0], photos[1], precision=precision)
        pairs.append(time.perf_counter() - middle)
        singles.append(middle - began)
    alone, pair = statistics.median(singles), statistics.median(pairs)
    for what, value in (("one image", alone), ("/similarity of an image pair", pair)):
        report.row(what=f"{what}, {precision}, p50, ms", contender="twinlens", value=1000 * value)
    extra = 1000 * (pair - 2 * alone)
    report.bar(f"similarity_{precision}_over_two_embeds_ms", extra, 5.0, extra <= 5.0)


def measure_zero_shot(
    report: Report, ours: Ours, photos: list[bytes], rounds: int, seconds: float, is_large: bool
) -> None:
    """Add the cost of a stored classifier of 1000 classes over a bare embed."""
    ours.put_classifier("thousand", [f"thing number {i}" for i in range(1000)])
    ratios = []
    for _ in range(rounds):
        bare = measure_rate(ours.pid, lambda: ours.embed_images(photos), 16, seconds)
        warm = measure_rate(ours.pid, lambda: ours.classify(photos, "thousand"), 16, seconds)
        ratios.append(bare / warm)
    cost = statistics.median(ratios) - 1
    what = "zero-shot, 1000 stored classes, over embed"
    report.row(what=what, contender="twinlens", value=cost)
    if is_large:
        report.bar("zero_shot_over_embed", cost, 0.05, cost <= 0.05)


def measure_overhead(report: Report, seconds: float) -> None:
    """Add the builtin's start, a single client's wait, and the CPU time of a cached text."""
    cpus, _ = split_cpus()
    with Server("model=builtin", "--threads", "1", cpus=cpus) as server:
        ready = server.seconds_to_ready
        report.bar("cold_start_builtin_seconds", ready, 3.0, ready <= 3.0)
        wait = _measure_wait(server)
        report.bar("added_wait_alone_ms", wait, 1.0, wait <= 1.0)
        body = b'{"texts": ["a photo of a cat"]}'
        asking = make_request("/embed", body, "application/json", "application/octet-stream")
        press(server.port, 16, asking, 0.5)
        began = count_cpu_seconds(server.pid)
        tally = press(server.port, 16, asking, 2 * seconds)
        micros = 1e6 * (count_cpu_seconds(server.pid) - began) / tally.count(200)
    report.row(what="HTTP of one text, CPU us", contender="twinlens", value=micros)
    report.bar("http_cpu_us_per_text", micros, 150.0, micros <= 150.0)


def _measure_wait(server: Server) -> float:
    """Return how long a single client's image waits for a worker, p50 in ms."""
    photo, waits = make_photo(), []
    with Connection(server.port) as connection:
        for _ in range(50):
            answer = connection.ask("POST", "/embed", photo, Content_Type="image/jpeg")
            stages = dict(s.split(";dur=") for s in answer.headers["server-timing"].split(", "))
            waits.append(float(stages["queue"]))
    return statistics.median(waits)


def measure_int8(
    report: Report,
    ours: Ours,
    rates: Rates,
    photos: list[bytes],
    rounds: int,
    seconds: float,
    is_large: bool,
) -> None:
    """Add images in int8, against clip-server if there is one, and a pair of them compared."""
    found = [
        measure_rate(ours.pid, lambda: ours.embed_images(photos, precision="int8"), 16, seconds)
        for _ in range(rounds)
    ]
    rate = statistics.median(found)
    report.row(what="images int8, 16 a request, per CPU s", contender="twinlens", value=rate)
    other = rates.get(("clip-server", IMAGES_16))
    if other and is_large:
        report.bar("images_int8_over_clip_server", rate / other, 2.5, rate / other >= 2.5)
    measure_pair(report, ours, photos, seconds, "int8")


def _judge(report: Report, rates: Rates, is_large: bool) -> None:
    """Add the bars that need a large bundle, and peers if there are any."""
    if not is_large:
        return
    for what, bar in ((IMAGES_16, "images"), (TEXTS_32, "texts")):
        tax = 1 - rates["twinlens", what] / rates["bare loop", what]
        report.bar(f"server_tax_{bar}", tax, 0.15, tax <= 0.15)
    for name, bar, what, target in (
        ("clip-server", "images_over_clip_server", IMAGES_16, 1.15),
        ("infinity", "images_over_infinity", IMAGES_16, 3.0),
        ("clip-server", "texts_over_clip_server", TEXTS_32, 6.0),
        ("infinity", "texts_over_infinity", TEXTS_32, 6.0),
        ("infinity", "texts_mixed_over_infinity", MIXED_32, 6.0),
    ):
        if (name, what) in rates:
            ratio = rates["twinlens", what] / rates[name, what]
            report.bar(bar, ratio, target, ratio >= target)


def _compare(report: Report, peers: list[Peer], photos: list[bytes]) -> None:
    """Check that peers embed as we do; timing other weights would mean nothing."""
    ours = peers[0]
    for peer in peers[1:]:
        for what, mine, other in (
            ("image", ours.embed_images(photos[:4]), peer.embed_images(photos[:4])),
            ("text", ours.embed_texts(MIXED[:8]), peer.embed_texts(MIXED[:8])),
        ):
            other = other / np.linalg.norm(other, axis=1, keepdims=True)
            cosine = float((mine * other).sum(axis=1).min())
            report.bar(f"{what}_cosine_to_{peer.name}", cosine, 0.999, cosine >= 0.999)


def _split(text: str) -> tuple[str, int]:
    url, _, pid = text.rpartition(",")
    if not url or not pid.isdecimal():
        raise SystemExit(f"{text!r} is not URL,PID")
    return url, int(pid)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller inputs, fewer rounds")
    parser.add_argument("--bundle", default="builtin", help="what to serve")
    parser.add_argument("--precisions", default="fp32", help="fp32, or fp32,int8")
    parser.add_argument("--infinity", metavar="URL,PID", help="a running infinity server")
    parser.add_argument("--clip-server", metavar="URL,PID", help="a running clip-server")
    parser.add_argument("--rates-only", action="store_true", help="measure throughput only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write rows and bars here")
    return parser.parse_args()


if __name__ == "__main__":
    main()
