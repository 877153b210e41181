"""Index, search and serve on a system that lacks what Windows lacks; POSIX plays its part.

Run as a program by `test_disk`. What is taken away: `fcntl` and its like, reads at an offset,
`fork`, flushing a folder or a file opened to read. `msvcrt` locks one byte, through `flock`. Paths,
text files and mapped files stay POSIX: what Windows does to those is not seen here.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import types
from pathlib import Path
from typing import Any

import faiss
import httpx
import numpy
import onnxruntime
import uvicorn

__all__ = ["asyncio", "faiss", "numpy", "onnxruntime", "tempfile", "uvicorn"]  # imported as POSIX

ROOT = Path(__file__).resolve().parent.parent
ABSENT = ("fcntl", "resource", "termios", "pwd", "grp", "uvloop")
LACKING = [
    *("fork", "pread", "pwrite", "sysconf", "memfd_create", "sched_getaffinity", "O_CLOEXEC"),
    *("posix_fadvise", "O_DIRECTORY", "getuid", "geteuid", "statvfs"),
]
_LOCKED_BYTE = 1 << 30


def take_away() -> None:
    """Make this process as poor as one on Windows; nothing of Twinlens is imported yet."""
    assert not [name for name in sys.modules if name.startswith("twinlens")]
    open_file, flush = os.open, os.fsync
    flags, access = fcntl.F_GETFL, os.O_ACCMODE
    get_flags, lock_file, how = fcntl.fcntl, fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB

    def open_no_folder(path: Any, *rest: Any, **more: Any) -> int:
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return open_file(path, *rest, **more)

    def flush_what_may_be_written(descriptor: int) -> None:
        if get_flags(descriptor, flags) & access == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flush(descriptor)

    def lock(descriptor: int, mode: int, count: int) -> None:
        assert (mode, count) == (2, 1)
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == _LOCKED_BYTE, "a reader would be kept out"
        try:
            lock_file(descriptor, how)
        except BlockingIOError:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None

    console: Any = types.ModuleType("msvcrt")
    console.LK_NBLCK, console.locking = 2, lock
    sys.modules["msvcrt"] = console
    sys.modules.update(dict.fromkeys(ABSENT))  # type: ignore[arg-type]
    for name in LACKING:
        delattr(os, name)
    del signal.SIGHUP
    shutil._use_fd_functions = False  # type: ignore[attr-defined]  # rmtree opens no folders there
    os.open, os.fsync = open_no_folder, flush_what_may_be_written  # type: ignore[assignment]


def ask(port: int, told: list[str]) -> None:
    """Ask a server that is starting for classes and for items, then stop it."""
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.1)
    heart = (ROOT / "examples" / "heart.png").read_bytes()
    files = {"images": ("heart.png", heart)}
    answer = httpx.post(f"{url}/zeroshot", files=files, data={"classes": ["sun", "red heart"]})
    told.append(answer.json()["data"][0]["labels"][0]["label"])
    body = {"collection": "c", "text": "a leaf", "k": 1}
    told.append(httpx.post(f"{url}/search", json=body).json()["data"][0]["id"])
    signal.raise_signal(signal.SIGINT)


def main(folder: Path, port: int) -> None:
    """Do it all in `folder`."""
    take_away()
    from twinlens.cli.main import build_app
    from twinlens.errors import InputError, LockedError
    from twinlens.index.writer import Writer

    def call(*arguments: str) -> None:
        build_app()(list(arguments), standalone_mode=False)

    pictures = folder / "pictures"
    pictures.mkdir()
    for name in ("heart", "sun", "leaf"):
        shutil.copy(ROOT / "examples" / f"{name}.png", pictures)
    collection = folder / "c"
    call("index", "build", str(pictures), "-o", str(collection))
    call("search", str(collection), "a red heart", "-k", "1", "--json")
    writer = Writer(collection)
    try:
        Writer(collection)
    except LockedError as error:
        assert f"process {os.getpid()}" in error.message, error.message
    else:
        raise AssertionError("two writers at a time")
    writer.close()
    try:
        call("serve", "--workers", "2", "--port", "0")
    except InputError as error:
        assert "--workers 2 needs fork" in error.message
    told: list[str] = []
    asker = threading.Thread(target=ask, args=(port, told))
    asker.start()
    data = ["--data", str(folder / "data")]
    call("serve", "builtin", "--collection", f"c={collection}", "--port", str(port), *data)
    asker.join()
    assert told == ["red heart", "leaf.png"], told
    sys.stdout.write("all done\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
