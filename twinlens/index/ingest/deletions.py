"""How many items a build may delete: a corpus that shrank by accident must not empty a collection.

An item that this corpus no longer names is deleted. One that could not be read is kept, whatever
the reason: only a corpus that was read tells what is gone.
"""

from __future__ import annotations

from twinlens.errors import InputError

DEFAULT_SHARE = 0.2
ALWAYS_ALLOWED = 10  # so that small collections do not ask each time


def most_deleted(limit: str | None, count: int) -> int:
    """Return how many of `count` items may go; `limit` is "20%" or "500", None the default."""
    if limit is None:
        return max(ALWAYS_ALLOWED, int(DEFAULT_SHARE * count))
    text = limit.strip()
    try:
        number = float(text.removesuffix("%"))
        if text.endswith("%") and 0 <= number <= 100:
            return int(number / 100 * count)
        if not text.endswith("%") and number >= 0 and number == int(number):
            return int(number)
    except (ValueError, OverflowError):
        pass
    raise InputError(
        f"max-delete is {limit!r}; it must be a share such as 20% or a number of items such as 500",
        field="max_delete",
    )


def check_deletions(corpus: str, gone: int, count: int, limit: str | None) -> None:
    """Refuse to delete more than the limit allows."""
    most = most_deleted(limit, count)
    if gone > most:
        raise InputError(
            f"{corpus} lacks {gone} of the collection's {count} items; at most {most} may be"
            f" deleted in one build (--max-delete {limit or f'{DEFAULT_SHARE:.0%}'}), so none was."
            f" Is the corpus complete? If so, delete them with --max-delete {gone},"
            " or keep them with --keep",
            field="max_delete",
        )
