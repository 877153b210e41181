"""The code that README and docs show: collected, run in order, compared with the output beside it.

    python docs/blocks.py --list               # what is not run, and why
    python docs/blocks.py README.md            # run a page
    python docs/blocks.py --update README.md   # write today's numbers into the outputs it shows
    python docs/blocks.py --quick              # every page, without the blocks tagged `slow`

A fence in `sh`, `python` or `console` is run; a fence in `text` or `json` right after it is what
it prints. In what is shown, `...` stands for anything, and whole numbers and words must agree;
numbers with a decimal point may differ a little, revisions altogether, and every number where the
output's fence says `varies`. A fence tagged `slow` is left to the slow tests.
What must stay true: a block is run as it stands, unless a tag of its fence is one of `REASONS`.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from docs.stage import Stage

ROOT = Path(__file__).resolve().parent.parent
REASONS = {
    "gpu": "needs a CUDA device",
    "ray": "needs Ray",
    "long": "takes minutes, or installs packages",
    "network": "needs a network",
}
RUN = ("sh", "python", "console")
SHOWN = ("text", "json")
_FENCE = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TOKEN = re.compile(
    r"(?P<dots>\.\.\.)|(?P<hex>\b(?=[a-f]*\d)[0-9a-f]{10,64}\b)"
    r"|(?P<number>-?\d+(?:\.\d*)?(?:e[-+]?\d+)?)|(?P<space>\s+)|(?P<other>.)"
)
_NUMBER = r"(-?\d+(?:\.\d*)?(?:e[-+]?\d+)?)"


@dataclass(frozen=True)
class Fence:
    """A fenced block of a page; `start` is where its content begins."""

    language: str
    tags: tuple[str, ...]
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Block:
    """Code to run, and what the page says it prints."""

    page: Path
    line: int
    code: Fence
    output: Fence | None

    @property
    def place(self) -> str:
        """Return where it stands, as an editor takes it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def reasons(self) -> list[str]:
        """Return why it is not run; nothing where it is."""
        return [REASONS[tag] for tag in self.code.tags if tag in REASONS]


def list_pages() -> list[Path]:
    """Return the README and every page of the docs that tells how to do something."""
    apart = {"log.md"}  # an index of what was measured once
    pages = sorted(page for page in ROOT.glob("docs/*.md") if page.name not in apart)
    return [ROOT / "README.md", ROOT / "examples" / "README.md", *pages]


def read_fences(page: Path) -> list[Fence]:
    """Return every fence of a page that names its language."""
    found = _FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Fence(m[1], tuple(m[2].split()), m[3], m.start(3), m.end()) for m in found]


def read_blocks(page: Path) -> list[Block]:
    """Return the blocks of a page in order."""
    text = page.read_text(encoding="utf-8")
    fences = read_fences(page)
    blocks = []
    for fence, after in zip_longest(fences, fences[1:]):
        if fence.language not in RUN:
            continue
        is_beside = after is not None and after.language in SHOWN
        gap = text[fence.end : after.start].splitlines()[:-1] if after and is_beside else ["-"]
        output = after if is_beside and len(gap) <= 3 and not "".join(gap[:-1]).strip() else None
        blocks.append(Block(page, text.count("\n", 0, fence.start) + 1, fence, output))
    return blocks


def run_page(page: Path, stage: Stage, *, slow: bool = True) -> list[str]:
    """Run the blocks of a page, those tagged `slow` too or not; return what went wrong."""
    names: dict[str, Any] = {"__name__": "__main__"}
    faults = []
    stage.open_page(page.relative_to(ROOT).as_posix().replace("/", "-"))
    for block in _choose(page, slow):
        try:
            for shown, printed in run_block(block, stage, names):
                fault = compare(shown, printed) if shown is not None else None
                if fault is not None:
                    faults.append(f"{block.place}: {fault}")
        except Exception as error:
            faults.append(f"{block.place}: {_tell(error)}")
    return faults


def _choose(page: Path, slow: bool) -> list[Block]:
    """Return the blocks to run: not those that never are, and slow ones only if wanted."""
    blocks = [block for block in read_blocks(page) if not block.reasons]
    return [block for block in blocks if slow or "slow" not in block.code.tags]


def run_block(
    block: Block, stage: Stage, names: dict[str, Any]
) -> Iterator[tuple[Fence | None, str]]:
    """Run a block; yield what the page shows and what was printed, a pair for each command."""
    stage.prepare(block.code.text)
    if block.code.language == "python":
        yield block.output, _run_python(block, stage, names)
    elif block.code.language == "sh":
        yield block.output, stage.run_shell(block.code.text)
    else:
        for command, shown in split_console(block.code):
            yield shown, stage.run_shell(command)


def split_console(fence: Fence) -> list[tuple[str, Fence | None]]:
    """Return the commands of a transcript, each with the output that follows it."""
    pairs: list[tuple[str, Fence | None]] = []
    parts = [m.start() for m in re.finditer(r"^\$ ", fence.text, re.MULTILINE)]
    for start, end in zip(parts, [*parts[1:], len(fence.text)], strict=True):
        command, _, rest = fence.text[start + 2 : end].partition("\n")
        at = fence.start + start + 3 + len(command)
        shown = Fence("text", fence.tags, rest, at, at + len(rest)) if rest.strip() else None
        pairs.append((command, shown))
    return pairs


def compare(shown: Fence, printed: str) -> str | None:
    """Return how what was printed differs from what is shown, or None."""
    found = _match(shown, printed)
    if found is None:
        return f"shown:\n{shown.text}\nprinted:\n{printed}"
    if "varies" in shown.tags:
        return None
    for token, now in found:
        if token.lastgroup == "number" and not _is_close(token[0], now):
            return f"{token[0]} is shown and {now} was printed, in:\n{printed}"
    return None


def refresh(shown: Fence, printed: str) -> str | None:
    """Return what is shown with the numbers that were printed, or None where words differ."""
    found = _match(shown, printed)
    if found is None:
        return None
    text = shown.text
    for token, now in reversed(found):
        new = now[: len(token[0])] if token.lastgroup == "hex" else _round_like(token[0], now)
        text = text[: token.start()] + new + text[token.end() :]
    return text


def _match(shown: Fence, printed: str) -> list[tuple[re.Match[str], str]] | None:
    """Return the shown numbers and revisions with those printed in their places."""
    tokens = list(_TOKEN.finditer(shown.text))
    values, parts = [], []
    for token in tokens:
        parts.append(_pattern(token))
        if token.lastgroup in ("number", "hex"):
            values.append(token)
    gap = r"\s*" if shown.language == "json" else ""
    found = re.fullmatch(r"\s*" + gap.join(parts) + r"\s*", printed, re.DOTALL)
    return None if found is None else list(zip(values, found.groups(), strict=True))


def _pattern(token: re.Match[str]) -> str:
    kinds = {"dots": ".*?", "hex": "([0-9a-f]+)", "number": _NUMBER, "space": r"\s*"}
    return kinds.get(token.lastgroup or "", re.escape(token[0]))


def _is_close(shown: str, now: str) -> bool:
    if "." not in shown and "e" not in shown:
        return shown == now
    a, b = float(shown), float(now)
    return abs(a - b) <= 0.05 + 0.1 * max(abs(a), abs(b))


def _round_like(shown: str, now: str) -> str:
    if "." not in shown or "e" in shown:
        return now
    places = len(shown.partition(".")[2])
    return f"{float(now):.{places}f}" if places else now


def _run_python(block: Block, stage: Stage, names: dict[str, Any]) -> str:
    printed = io.StringIO()
    code = compile(stage.readdress(block.code.text), block.place, "exec")
    with contextlib.chdir(stage.folder), contextlib.redirect_stdout(printed):
        exec(code, names)
    return printed.getvalue()


def _tell(error: Exception) -> str:
    return "".join(traceback.format_exception(error)[-3:])


def update_page(page: Path, stage: Stage, *, slow: bool = True) -> list[str]:
    """Write today's numbers into the outputs of a page; return what has to be done by hand."""
    names: dict[str, Any] = {"__name__": "__main__"}
    by_hand = []
    stage.open_page(page.relative_to(ROOT).as_posix().replace("/", "-"))
    changes: list[tuple[Fence, str]] = []
    for block in _choose(page, slow):
        for shown, printed in run_block(block, stage, names):
            new = refresh(shown, printed) if shown is not None else None
            if shown is not None and new is not None:
                changes.append((shown, new))
            elif shown is not None:
                by_hand.append(f"{block.place}: by hand, it prints\n{printed}")
    text = page.read_text(encoding="utf-8")
    for shown, new in reversed(changes):
        text = text[: shown.start] + new + text[shown.start + len(shown.text) :]
    page.write_text(text, encoding="utf-8")
    return by_hand


def tell_untested() -> list[str]:
    """Return a line for each block that is not run."""
    return [
        f"{block.place}: {' and '.join(block.reasons)}: {block.code.text.splitlines()[0]}"
        for page in list_pages()
        for block in read_blocks(page)
        if block.reasons
    ]


def main(arguments: list[str]) -> int:
    """Do what the command line asks."""
    write = sys.stdout.write
    if "--list" in arguments:
        write("\n".join(tell_untested()) + "\n")
        return 0
    pages = [ROOT / name for name in arguments if not name.startswith("--")] or list_pages()
    slow = "--quick" not in arguments
    with Stage.build() as stage:
        act = update_page if "--update" in arguments else run_page
        told = [line for page in pages for line in act(page, stage, slow=slow)]
    write("".join(f"{line}\n" for line in told))
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
