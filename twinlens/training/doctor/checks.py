"""The signs of sickness, one function each: from a history to a verdict, or nothing.

`CAUSES` name a fault by a measurement that only this fault explains; `CONSEQUENCES` are asked when
no cause was found; `NOTES` put a healthy run's odd numbers in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from twinlens.training.doctor.history import WINDOW, History
from twinlens.training.doctor.verdict import NOTE, Verdict
from twinlens.training.schedules import Linear

SAME_IMAGES = 0.01  # coarse deviation over images; photographs have 0.1 to 0.2
RADIAL = 0.02  # share of a gradient along its row; rounding stays under 1e-3
LENGTH = 0.01
UNIFORM = 0.99  # of ln K
HOPELESS = 1e-4  # of ln K: targets this flat carry nothing at any length of run
AGREED = 0.1  # of the information that targets could carry about images
SETTLED = 100  # steps before entropies are judged: first targets say little in any run
LARGE_UPDATE = 0.05  # of the weights' length in one step


def data_are_constant(history: History) -> Verdict | None:
    """Look at the stored images."""
    variety = history.last("variety")
    if variety is None or variety >= SAME_IMAGES:
        return None
    return Verdict(
        "constant data",
        f"images deviate from each other by {variety:.4f} of full scale (usual: 0.1 to 0.2)",
        "the images are all (nearly) the same, or were decoded to one colour",
        "look at the data that DATA names, and at bad_images.jsonl",
    )


def encoder_is_frozen(history: History) -> Verdict | None:
    """Look whether the encoder is ever moved."""
    moved, slopes = history.all_recent("update/image"), history.all_recent("grad/image")
    if not moved or (max(moved) > 0 and max(slopes) > 0):
        return None
    why = "no gradient reaches it" if max(slopes) == 0 else "its learning rate is 0"
    return Verdict(
        "frozen encoder",
        f"the encoder's weights have not moved in the last {WINDOW} logged steps",
        f"{why}: requires_grad=False, a detach() on its output, or a group with lr_factor 0",
        "let the encoder train; with lr=0 or a schedule at its end, set lr or steps",
    )


def teacher_is_student(history: History) -> Verdict | None:
    """Look whether the twin is a copy, and lags."""
    shared, gaps = history.last("twin_shared"), history.all_recent("twin_gap")
    lagging = not gaps or max(gaps) > 0
    if not shared and lagging:
        return None
    return Verdict(
        "teacher is the student",
        f"{shared or 0:.0%} of the teacher's weights are the student's own memory"
        if shared
        else "teacher and student are equal after every step",
        "the teacher is an alias of the student, or its momentum is 0",
        "make the teacher a deep copy (Ema does) with a momentum such as 0.99",
    )


def gradient_enters_targets(history: History) -> Verdict | None:
    """Look whether the loss pulls at its own targets."""
    share = history.recent("target_gradient")
    if not share:
        return None
    return Verdict(
        "missing stop-gradient",
        f"{share:.0%} of the loss's gradient flows into its targets",
        "the targets are not detached, so student and target meet at one point",
        "detach the targets in the loss",
    )


def part_is_missing(history: History) -> Verdict | None:
    """Look whether the parts that keep the method from collapsing take part."""
    for part in history.objective.anatomy.needed:
        slopes = history.all_recent(f"grad/{part}")
        if len(history) >= WINDOW and (not slopes or max(slopes) == 0):
            return Verdict(
                f"missing {part}",
                f"no parameter of the {part} gets a gradient",
                f"{history.config.method} has no {part} here, or goes around it; without one"
                " it collapses",
                f"put the {part} back between the student's projection and the loss",
            )
    return None


def length_matters(history: History) -> Verdict | None:
    """Look whether the loss pulls along the rows that it should only turn."""
    radial = history.recent("radial_gradient")
    if radial is None or radial <= RADIAL:
        return None
    return Verdict(
        "missing L2 norm",
        f"{radial:.0%} of the loss's gradient points along the embeddings",
        "the loss compares embeddings that were not normalised, so it grows them instead of"
        " turning them",
        "normalise the embeddings before the similarity",
    )


def prototypes_have_length(history: History) -> Verdict | None:
    """Look at the prototypes' length."""
    length = history.recent("prototype_length")
    if length is None or abs(length - 1) <= LENGTH:
        return None
    return Verdict(
        "prototypes not normalised",
        f"prototypes are {length:.3f} long instead of 1",
        "they are not put back on the unit sphere after a step",
        "declare UnitRows for their parameter",
    )


def queue_holds_the_batch(history: History) -> Verdict | None:
    """Look for the batch's own keys in the queue that the loss is given."""
    share = history.recent("queue_hits")
    if share is None or share < 0.5:
        return None
    return Verdict(
        "queue enqueued before the loss",
        f"{share:.0%} of the batch's own keys stand in the queue that the loss compares with",
        "keys are pushed before the loss, so each positive is also a negative",
        "push the keys after the loss, once a step",
    )


def variance_is_not_paid_for(history: History) -> Verdict | None:
    """Look whether features without spread cost anything (methods that log `variance`)."""
    short, loss = history.recent("variance"), history.recent("loss")
    if short is None or loss is None or _early(history, SETTLED // 2):
        return None
    # By the weight of the invariance: the variance's own may be what is missing.
    weight: float = getattr(history.objective, "invariance", 0.0)
    due = weight * short
    if short < 0.5 or loss >= 0.5 * due:
        return None
    return Verdict(
        "missing variance term",
        f"features fall short of unit deviation by {short:.2f}, which should cost {due:.3g};"
        f" the loss is {loss:.3g}",
        "the variance term is missing from the loss or has next to no weight, so features shrink",
        "weigh the variance like the invariance (25 in the paper)",
    )


def targets_are_flat(history: History) -> Verdict | None:
    """Look whether the teacher's assignments say anything."""
    entropy, most = history.recent("teacher_entropy"), _log_prototypes(history)
    if entropy is None or most is None or _early(history, SETTLED):
        return None
    hot = _teacher_heat(history)
    missing = 1 - entropy / most
    if missing > 1 - UNIFORM or not (hot >= 1 or missing < HOPELESS):
        return None
    if history.recent("prototype_length") is not None:
        return None  # balanced by Sinkhorn: no teacher temperature to blame
    return Verdict(
        "teacher temperature too high",
        f"the teacher's targets are flat: entropy {entropy:.4f} of at most ln K = {most:.4f},"
        f" and the loss stands at {history.last('loss') or math.nan:.4f}",
        "a higher temperature makes the teacher less sharp; flat targets teach flat answers",
        "lower teacher_temperature (0.04 to 0.07), well under student_temperature",
    )


def targets_agree(history: History) -> Verdict | None:
    """Look whether all images are assigned alike, sharply."""
    own, together = history.recent("teacher_entropy"), history.recent("shared_entropy")
    most = _log_prototypes(history)
    if own is None or together is None or most is None or _early(history, SETTLED):
        return None
    room = min(most - own, math.log(2 * history.config.settings.batch))
    if own > 0.9 * most or together - own > AGREED * room:
        return None
    return Verdict(
        "no centring",
        f"the teacher assigns all images alike: entropy {own:.3f} each and {together:.3f}"
        f" together, of at most ln K = {most:.3f}",
        "nothing keeps one prototype from taking all: the centre is not subtracted or not moved",
        "subtract the running centre of the teacher's logits (centre_momentum about 0.9)",
    )


def steps_are_too_large(history: History) -> Verdict | None:
    """Look for steps that overwrite the weights, and for what follows from them."""
    broke = history.last("not_finite") is not None
    moved = history.series("update/image")
    largest = max(moved, default=0.0)
    if not broke and largest < LARGE_UPDATE:
        return None
    settings = history.config.settings
    seen = [f"one step moved the encoder by {largest:.1%} of its weights (usual: up to 2%)"]
    if broke:
        seen.append("then the loss was no finite number")
    return Verdict(
        "learning rate too high",
        ", ".join(seen if largest else seen[1:]),
        f"lr={settings.lr:g} is too high for {settings.optimizer} at batch {settings.batch}",
        f"try lr={settings.lr / 10:.2g} or a longer warmup",
    )


def embeddings_collapsed(history: History) -> Verdict | None:
    """Look whether embeddings of different images are the same."""
    spread, head = history.recent("spread"), history.recent("head_spread")
    rank = history.recent("head_rank")
    low = [
        f"{what} {value:.3g}"
        for what, value, least in (
            ("the encoder's spread is", spread, 0.02),
            ("the head's spread is", head, 0.02),
            ("the head's effective rank is", rank, 1.2),
        )
        if value is not None and value < least
    ]
    if not low or _early(history, SETTLED // 2):
        return None
    return Verdict(
        "collapse",
        f"different images get the same embedding: {', '.join(low)} (spread of unit rows is 1"
        " when they fill the sphere)",
        "nothing in the loss keeps embeddings apart, or the learning rate threw them together",
        "check lr and augmentation; compare with the method's recipe by twinlens train --show",
    )


def flat_yet_alive(history: History) -> Verdict | None:
    """Say that a plateau is no collapse, if the embeddings say so."""
    rank = history.last("rank")
    if not history.at_chance() or rank is None:
        return None
    return Verdict(
        "loss at its chance plateau",
        f"the loss is {history.last('loss'):.4f}, its value by chance {history.chance:.4f};"
        f" yet embeddings are spread out (effective rank {rank:.1f})",
        "normal early on, and for assignment losses also later, while embeddings improve",
        "go on, and watch knn and rank; if they stand still too, lower the temperature or raise lr",
        NOTE,
    )


def _early(history: History, steps: int) -> bool:
    """Tell whether the rate is still rising, or fewer than `steps` are done."""
    return history.step < max(steps, 2 * history.config.settings.warmup)


def _log_prototypes(history: History) -> float | None:
    prototypes: Any = getattr(history.objective, "prototypes", None)
    return math.log(prototypes) if prototypes else None


def _teacher_heat(history: History) -> float:
    """Return the teacher's temperature over the student's; 0 for methods without."""
    objective: Any = history.objective
    teacher, student = (
        getattr(objective, name, None) for name in ("teacher_temperature", "student_temperature")
    )
    if not isinstance(teacher, Linear) or not isinstance(student, float):
        return 0.0
    return teacher.at(history.progress()) / student


Sign = Callable[[History], Verdict | None]
CAUSES: tuple[Sign, ...] = (
    data_are_constant,
    teacher_is_student,
    encoder_is_frozen,
    gradient_enters_targets,
    part_is_missing,
    length_matters,
    prototypes_have_length,
    queue_holds_the_batch,
    variance_is_not_paid_for,
    steps_are_too_large,
    targets_are_flat,
    targets_agree,
)
CONSEQUENCES: tuple[Sign, ...] = (embeddings_collapsed,)
NOTES: tuple[Sign, ...] = (flat_yet_alive,)
