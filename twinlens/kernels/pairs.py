"""Which pairs are positives, and which are not compared: the only difference between the losses.

Rows are the `n` anchors, columns the `m` candidates. Row `i` *is* column `i + offset` if both hold
the same items (the diagonal). What must stay true: everything is index arithmetic and label
equality, so that a tile can decide about its own entries and nothing of size n x m is stored.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from twinlens.errors import InputError


@dataclass(frozen=True)
class Pairs:
    """The positives and the exclusions of a contrastive loss.

    Without labels the one positive of row `i` is column `i + offset`. With labels it is every
    column of the same label. `exclude_self` hides column `i + offset` from row `i`; columns before
    `own_key_columns` are visible only to the rows whose positives they are (MoCo's own keys).

    `weigh_positives` is for the sigmoid and groups of several positives: a positive pair counts
    (1/k + 1/k') / 2 if its row has k positives and its column k', not 1, so that large groups do
    not outweigh the rest.

    CLIP and SigLIP: `Pairs()`. NT-Xent: the image's number as label, and `exclude_self`. SupCon:
    the class as label, and `exclude_self`. MoCo: `Pairs(own_key_columns=n)`, its queue after the
    keys.
    """

    offset: int = 0
    row_labels: Tensor | None = None  # (n,) int64
    column_labels: Tensor | None = None  # (m,) int64
    exclude_self: bool = False
    own_key_columns: int = 0
    weigh_positives: bool = False

    def check(self, n: int, m: int) -> None:
        """Raise if these pairs do not fit n rows and m columns."""
        if (self.row_labels is None) != (self.column_labels is None):
            raise InputError("row_labels and column_labels go together: give both or neither")
        for name, labels, length in (
            ("row_labels", self.row_labels, n),
            ("column_labels", self.column_labels, m),
        ):
            if labels is not None and labels.shape != (length,):
                raise InputError(
                    f"{name} has shape {tuple(labels.shape)}; it must be ({length},)",
                    field=name,
                )
        if self.exclude_self and self.row_labels is None:
            raise InputError(
                "exclude_self without labels hides every row's only positive: give row_labels and "
                "column_labels",
                field="exclude_self",
            )
        on_diagonal = self.row_labels is None or self.exclude_self
        if on_diagonal and not 0 <= self.offset <= m - n:
            raise InputError(
                f"offset {self.offset} puts row {n - 1} at column {self.offset + n - 1}, but there "
                f"are {m} columns: every row needs its own column",
                field="offset",
            )

    def positive(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Tell for broadcast row and column numbers whether they are positives."""
        diagonal = rows + self.offset == columns
        if self.row_labels is None or self.column_labels is None:
            return diagonal
        same = self.row_labels[rows] == self.column_labels[columns]
        return same & ~diagonal if self.exclude_self else same

    def hidden(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Tell for broadcast row and column numbers whether they are not compared."""
        out = (columns < self.own_key_columns) & ~self.positive(rows, columns)
        return out | (rows + self.offset == columns) if self.exclude_self else out

    def crosses(self, rows: slice, columns: slice) -> bool:
        """Tell whether the diagonal runs through the tile."""
        after, before = rows.start + self.offset, rows.stop + self.offset
        return bool(after < columns.stop and columns.start < before)

    def diagonal_in(
        self, rows: slice, columns: slice, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return the tile's entries on the diagonal, as local row and column numbers."""
        first = max(rows.start, columns.start - self.offset)
        last = min(rows.stop, columns.stop - self.offset)
        numbers = torch.arange(first, max(first, last), device=device)
        return numbers - rows.start, numbers + self.offset - columns.start

    def groups(self) -> tuple[Tensor, Tensor, int]:
        """Return the labels of rows and columns renumbered from 0, and their number."""
        if self.row_labels is None or self.column_labels is None:
            raise RuntimeError("pairs on the diagonal have no groups; this is a bug")
        both = torch.cat([self.row_labels, self.column_labels])
        values, numbers = torch.unique(both, return_inverse=True)
        n = len(self.row_labels)
        return numbers[:n], numbers[n:], len(values)

    def counts(self, n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return how many positives each row (n,) and each column (m,) has."""
        if self.row_labels is None:
            columns = torch.zeros(m, dtype=torch.int64, device=device)
            columns[self.offset : self.offset + n] = 1
            return torch.ones(n, dtype=torch.int64, device=device), columns
        row_group, column_group, k = self.groups()
        rows = torch.bincount(column_group, minlength=k)[row_group]
        columns = torch.bincount(row_group, minlength=k)[column_group]
        if self.exclude_self:
            own = row_group == column_group[self.offset : self.offset + n]
            rows = rows - own.long()
            columns[self.offset : self.offset + n] -= own.long()
        return rows, columns
