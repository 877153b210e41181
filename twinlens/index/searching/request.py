"""What a search asks for, checked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from twinlens.errors import InputError
from twinlens.index.collection import MAX_K
from twinlens.index.hits import Hit
from twinlens.index.query.filters import Filter
from twinlens.index.searching.fusion import RANKS, WEIGHTS


@dataclass(frozen=True)
class SearchOptions:
    """The options of a search.

    `words` adds a search of captions by these words (`fusion` joins both by `ranks` or `weights`;
    `balance` is the weight of the words). `diversity` above 0 trades similarity to the query for
    difference between hits. `one_per` names a field: of the items with the same value the best one
    answers. `offset` skips hits; `threshold` drops those with a lower cosine; `explain` asks for
    the path. `revision` is that of the bundle that embedded the query: a collection that holds
    another bundle's embeddings refuses it.
    """

    k: int = 10
    offset: int = 0
    filter: str | Filter | None = None
    threshold: float | None = None
    exact: bool = False
    words: str | None = None
    fusion: str = RANKS
    balance: float = 0.5
    diversity: float = 0.0
    one_per: str | None = None
    explain: bool = False
    revision: str | None = None

    @property
    def is_plain(self) -> bool:
        """Whether `Collection.search` alone answers it."""
        chosen = self.words is not None or self.one_per is not None
        return not (chosen or self.offset or self.diversity or self.explain)

    @property
    def is_by_cosine(self) -> bool:
        """Whether the first hits are those of the highest cosines."""
        return self.words is None and not (self.offset or self.diversity)

    def __post_init__(self) -> None:
        if not (self.k >= 1 and self.offset >= 0 and self.k + self.offset <= MAX_K):
            raise InputError(
                f"k is {self.k}, offset {self.offset}; k must be at least 1, offset at least 0, and"
                f" their sum at most {MAX_K}",
                field="k" if self.k < 1 else "offset",
            )
        if self.fusion not in (RANKS, WEIGHTS):
            raise InputError(
                f"fusion is {self.fusion!r}; it must be {RANKS} or {WEIGHTS}", field="fusion"
            )
        for name in ("balance", "diversity"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise InputError(f"{name} is {value}; it must be between 0 and 1", field=name)


@dataclass(frozen=True)
class SearchAnswer:
    """The hits, best first, each with its ranks in both lists; if asked, how rows were searched."""

    hits: tuple[Hit, ...]
    reasons: tuple[dict[str, Any], ...] = ()
    path: dict[str, Any] = field(default_factory=dict)
