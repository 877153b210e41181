"""All measurements that need a CUDA machine, in one command and within minutes.

    python benchmarks/gpu --json FILE --markdown FILE    all parts, at most 480 seconds
    python benchmarks/gpu --only encoder,server --budget 200
    python benchmarks/gpu --dry-run --json FILE          the same on a CPU: numbers mean nothing

Parts, most important first: correctness and kernels beside their peers (`kernels_gpu.py`), an
encoder (`encoder_gpu.py`), a server over HTTP (`serve_gpu.py`), training for a minute
(`train_gpu.py`), search (`search_gpu.py`). Each runs in its own process with its share of the
budget; if it is stopped, its results so far count. A part whose libraries or data are missing says
so in the result.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
BUDGET = 480.0


@dataclass(frozen=True)
class Part:
    """One script, its requirements, and its share of the time that is left when it begins."""

    name: str
    script: str
    share: float
    needs: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    variable: str = ""  # of the environment; without it there are no data


PARTS = (
    Part("kernels", "kernels_gpu.py", 0.45, ("torch", "triton")),
    Part("encoder", "encoder_gpu.py", 0.4, ("torch", "open_clip", "onnxscript", "onnxruntime")),
    Part("server", "serve_gpu.py", 0.5, ("fastapi", "uvicorn", "onnxruntime")),
    Part("training", "train_gpu.py", 0.6, ("torch", "torchvision"), variable="TWINLENS_DATA"),
    Part("search", "search_gpu.py", 1.0, ("faiss",), ("--quick",)),
)


def main() -> int:
    """Run the requested parts; exit 1 if one of them failed."""
    arguments = _parse()
    ends = time.monotonic() + arguments.budget
    found: dict[str, Any] = {}
    chosen = [part for part in PARTS if part.name in arguments.only]
    for part in chosen:
        share = 1.0 if part is chosen[-1] else part.share
        found[part.name] = run_part(part, share * (ends - time.monotonic()), arguments)
        content = {"name": "gpu", "card": describe_card(), "parts": found}
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        if arguments.markdown is not None:
            arguments.markdown.write_text(render(content), encoding="utf-8")
    return 1 if any("broke" in result["state"] for result in found.values()) else 0


def run_part(part: Part, seconds: float, arguments: _Arguments) -> dict[str, Any]:
    """Return the state, rows and bars of one part."""
    if missing := find_missing(part, dry=arguments.dry_run):
        return {"state": f"not run: {missing}", "rows": [], "bars": {}}
    allowed = max(1.0, seconds)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [sys.executable, str(HERE / part.script), "--json", str(result)]
        command += ["--dry-run"] if arguments.dry_run else part.options
        command += arguments.extra(part)
        print(f"== {part.name}: {shlex.join(command[1:])} (at most {allowed:.0f} s)", flush=True)
        state = _run(command, allowed, dry=arguments.dry_run)
        try:
            content = json.loads(result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            content = {}
    return {"state": state, "rows": content.get("rows", []), "bars": content.get("bars", {})}


def _run(command: list[str], seconds: float, *, dry: bool) -> str:
    """Run a script in its own process group, which ends with it; return how it went."""
    environment = os.environ | ({"TRITON_INTERPRET": "1"} if dry else {})
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
        return f"stopped after {seconds:.0f} s, with what was measured until then"
    taken = f"{time.monotonic() - began:.0f} s"
    return f"done in {taken}" if code == 0 else f"broke with exit code {code} after {taken}"


def find_missing(part: Part, *, dry: bool) -> str:
    """Return what a part lacks on this machine; empty if it can run."""
    lacking = [name for name in part.needs if importlib.util.find_spec(name) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    if part.variable and not dry and part.variable not in os.environ:
        return f"{part.variable} is not set, and its data is not part of the project"
    return ""


def describe_card() -> dict[str, str]:
    """Return the GPU, the driver, the versions and the date."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout
    except (OSError, subprocess.SubprocessError):
        told = "no card"
    versions = {name: _read_version(name) for name in ("torch", "triton", "onnxruntime")}
    cpus = str(len(os.sched_getaffinity(0)))
    day = datetime.date.today().isoformat()
    return {"card": told.strip().replace("\n", "; "), "cpus": cpus, "date": day, **versions}


def _read_version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    for candidate in (f"{name}-gpu", name):
        try:
            return version(candidate)
        except PackageNotFoundError:
            continue
    return "none"


def render(content: dict[str, Any]) -> str:
    """Return the result as Markdown: where and when, then each part's rows and bars."""
    lines = [", ".join(f"{k} {v}" for k, v in content["card"].items()) + "."]
    for name, part in content["parts"].items():
        lines += ["", f"### {name.capitalize()}", "", f"{part['state'].capitalize()}."]
        kinds: dict[tuple[str, ...], list[dict[str, Any]]] = {}
        for row in part["rows"]:
            kinds.setdefault(tuple(row), []).append(row)
        for names, rows in kinds.items():
            lines += ["", *_table([n.replace("_", " ") for n in names], rows, names)]
        if part["bars"]:
            bars = [{"bar": bar, **values} for bar, values in part["bars"].items()]
            columns = ("bar", "value", "target", "holds")
            lines += ["", *_table(list(columns), bars, columns)]
    return "\n".join(lines) + "\n"


def _table(heads: list[str], rows: list[dict[str, Any]], names: tuple[str, ...]) -> list[str]:
    """Return the lines of one table."""
    cells = [[_show(row.get(name, "")) for name in names] for row in rows]
    return [f"| {' | '.join(line)} |" for line in [heads, ["---"] * len(heads), *cells]]


def _show(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return str(value).replace("|", "/")


class _Arguments(argparse.Namespace):
    """What was asked for."""

    only: list[str]
    options: list[str]

    def extra(self, part: Part) -> list[str]:
        """Return the further options of a part, given as `server:--serve="--workers 8"`."""
        given = [text.partition(":") for text in self.options]
        return [word for name, _, rest in given if name == part.name for word in shlex.split(rest)]


def _read_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    known = [part.name for part in PARTS]
    if wrong := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is no part; parts are {', '.join(known)}")
    return names


def _parse() -> _Arguments:
    parser = argparse.ArgumentParser(prog="benchmarks/gpu", description=__doc__)
    everything = [part.name for part in PARTS]
    parser.add_argument("--only", type=_read_names, default=everything, metavar="PART,PART")
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS")
    parser.add_argument("--dry-run", action="store_true", help="tiny, on a CPU")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results here")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables here")
    parser.add_argument(
        "--options",
        action="append",
        default=[],
        metavar="PART:OPTIONS",
        help="further options of a part",
    )
    return parser.parse_args(namespace=_Arguments())


if __name__ == "__main__":
    sys.exit(main())
