"""The doctor's notes on a healthy run: metrics that look wrong, and why they are not."""

from __future__ import annotations

from twinlens.training.doctor.checks import Check
from twinlens.training.doctor.history import WINDOW, History
from twinlens.training.doctor.verdict import NOTE, Verdict

FALLEN = 0.1  # of the best: on a few hundred images, chance moves accuracies by less


def loss_is_at_chance(history: History) -> Verdict | None:
    """Explain a loss at its chance value while embeddings are spread out."""
    rank = history.last("rank")
    if not history.at_chance() or rank is None:
        return None
    return Verdict(
        "loss at its chance plateau",
        f"the loss is {history.last('loss'):.4f}, its chance value {history.chance:.4f};"
        f" yet embeddings are spread out (effective rank {rank:.1f})",
        "normal early on, and for assignment losses later too, while embeddings improve",
        "watch knn and rank; if they do not improve either, lower the temperature or raise lr",
        NOTE,
    )


def held_out_data_falls(history: History) -> Verdict | None:
    """Report a held-out metric that stays below its best while the run goes on."""
    for name in history.held_out():
        values = history.series(name)
        recent, best = values[-WINDOW:], max(values)
        if len(values) > WINDOW and best - max(recent) > FALLEN * best:
            return Verdict(
                "held-out data falls",
                f"{name} was {best:.1f} and has not been above {max(recent):.1f} in the last"
                f" {WINDOW} validations",
                "the run overfits its training data, or its steps are too large",
                "serve the best checkpoint (--best); patience=3 stops such a run, and a lower lr,"
                " a longer warmup, freeze or lora keep more of the pretrained weights",
                NOTE,
            )
    return None


NOTES: tuple[Check, ...] = (loss_is_at_chance, held_out_data_falls)
