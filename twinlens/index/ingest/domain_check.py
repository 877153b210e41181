"""Whether a collection's pictures are of the kind that its model knows, asked after each build.

What must stay true: a sample decides, so that the check costs the same for any collection; what it
found is kept in the catalog, where `stats` and the server read it.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from twinlens.bundle.domain.domain_sign import DomainSign, read_sign
from twinlens.bundle.domain.domain_warning import describe_far
from twinlens.bundle.manifest import Manifest
from twinlens.index.collection import Collection
from twinlens.index.stats import DOMAIN_EXTENSION
from twinlens.index.vectors.arrays import Floats
from twinlens.index.writer import Writer


def check_domain(writer: Writer, manifest: Manifest) -> str | None:
    """Judge a sample of the collection and keep the verdict; return a warning if it is far."""
    sign = read_sign(manifest)
    rows = None if sign is None else _sample(writer.collection, sign)
    if sign is None or rows is None:
        return None
    verdict = sign.judge(rows)
    warning = describe_far(manifest, verdict.pictures) if verdict.far else None
    found = {**dataclasses.asdict(verdict), "warning": warning}
    if writer.catalog.extensions().get(DOMAIN_EXTENSION) != found:
        with writer.catalog.writing() as transaction:
            transaction.extend(DOMAIN_EXTENSION, found)
    return warning


def _sample(collection: Collection, sign: DomainSign) -> Floats | None:
    """Return the embeddings of as many items as decide; None for an empty collection."""
    snapshot = collection.snapshot()
    rids = np.concatenate(
        [rids[live] for rids, live in snapshot.select(None)] or [np.empty(0, int)]
    )
    if len(rids) > sign.most:
        rids = np.random.default_rng(0).choice(rids, sign.most, replace=False)
    found = [snapshot.embedding(rid) for rid in rids.tolist()]
    rows = [row for row in found if row is not None]
    return np.stack(rows) if rows else None
