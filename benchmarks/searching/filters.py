"""Filtered searches: recall, cost and count, for random filters and correlated ones.

`share` is random; `lean` ranks the rows by their nearness to texts as a whole, so that a filter on
it keeps either the rows that texts find, or those that they never find.
"""

from __future__ import annotations

from searching.stage import K, Stage, ask_each, measure_recall, searcher, true_answers

LEAST = 0.99
QUERIES = 400
DRAWN = (0.001, 0.01, 0.1, 0.5)
LEANING = {
    "nearest tenth": "lean >= 0.9",
    "farthest tenth": "lean < 0.1",
    "nearest half": "lean >= 0.5",
    "farthest half": "lean < 0.5",
}


def compare_filters(stage: Stage) -> None:
    """Measure each filter on texts that were not used for tuning."""
    plain = ask_each(searcher(stage.collection), stage.texts[:QUERIES])[1]
    for share in DRAWN:
        recall = _measure(stage, f"filter keeps {share:.1%}", f"share < {share}", plain)
        stage.report.bar(f"filter_{share}_recall", recall, LEAST, recall >= LEAST)
    for name, text in LEANING.items():
        recall = _measure(stage, f"filter keeps the {name}", text, plain)
        stage.report.bar(f"filter_{name.replace(' ', '_')}_recall", recall, LEAST, recall >= LEAST)


def _measure(stage: Stage, what: str, text: str, plain: float) -> float:
    texts = stage.texts[:QUERIES]
    truth = true_answers(stage.collection, texts, text)
    found, cost = ask_each(searcher(stage.collection, text), texts)
    if {len(one) for one in found} != {min(K, stage.collection.count(text))}:
        raise RuntimeError(f"{text}: not exactly as many hits as match")
    recall = measure_recall(found, truth)
    stage.report.row(what=what, ms=cost, ratio=cost / plain, recall=recall)
    return recall
