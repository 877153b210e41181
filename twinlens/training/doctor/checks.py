"""The doctor's checks, one function each: from a history to a verdict, or None.

What must stay true: `CAUSES` identify a fault by a measurement that no other fault explains;
`CONSEQUENCES` run only if no cause was found.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from twinlens.training.doctor.history import WINDOW, History
from twinlens.training.doctor.verdict import Verdict
from twinlens.training.schedules import Linear

SAME_IMAGES = 0.01  # standard deviation over images, at 4 x 4 cells; photographs have 0.1 to 0.2
RADIAL = 0.02  # share of the gradient along its row; rounding stays below 1e-3
LENGTH = 0.01  # deviation of the prototypes' mean length from 1
UNIFORM = 0.99  # of ln K: targets above it are called flat
UNINFORMATIVE = 1e-4  # of ln K: targets this flat carry no information, however long the run
AGREED = 0.1  # of the information about images that targets could carry
SETTLED = 100  # steps before entropies are judged: early targets are near uniform in any run
LARGE_UPDATE = 0.05  # step norm over weight norm
COLLAPSED_SPREAD = 0.02  # healthy short runs have 0.12 to 1.0 in the head (decision 0070)
COLLAPSED_RANK = 1.2  # healthy short runs have 3 to 55


def data_are_constant(history: History) -> Verdict | None:
    """Check whether the stored images differ."""
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
    """Check whether any step moves the encoder, unless it is frozen by choice."""
    config = history.config
    if "image" in (*config.objective.frozen(), *config.settings.freeze.split(",")):
        return None
    moved, slopes = history.all_recent("update/image"), history.all_recent("grad/image")
    if not moved or not slopes or (max(moved) > 0 and max(slopes) > 0):
        return None
    why = "no gradient reaches it" if max(slopes) == 0 else "its learning rate is 0"
    return Verdict(
        "frozen encoder",
        f"the encoder's weights have not moved in the last {WINDOW} logged steps",
        f"{why}: requires_grad=False, a detach() on its output, or a group with lr_factor 0",
        "let the encoder train; with lr=0 or a schedule at its end, set lr or steps",
    )


def teacher_is_student(history: History) -> Verdict | None:
    """Check that the EMA teacher is a copy and lags behind."""
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
    """Check whether gradient flows into the targets."""
    share = history.recent("target_gradient")
    if not share:
        return None
    return Verdict(
        "missing stop-gradient",
        f"{share:.0%} of the loss's gradient flows into its targets",
        "the targets are not detached, so student and target collapse to one point",
        "detach the targets in the loss",
    )


def part_is_missing(history: History) -> Verdict | None:
    """Check that the parts which prevent collapse receive gradient."""
    for part in history.objective.health.needed:
        slopes = history.all_recent(f"grad/{part}")
        if len(history) >= WINDOW and (not slopes or max(slopes) == 0):
            return Verdict(
                f"missing {part}",
                f"no parameter of the {part} receives a gradient",
                f"{history.config.method} has no {part} here, or bypasses it; without one"
                " it collapses",
                f"put the {part} back between the student's projection and the loss",
            )
    return None


def row_length_affects_loss(history: History) -> Verdict | None:
    """Check whether the loss depends on the length of rows that should be normalised."""
    radial = history.recent("radial_gradient")
    if radial is None or radial <= RADIAL:
        return None
    return Verdict(
        "missing L2 norm",
        f"{radial:.0%} of the loss's gradient points along the embeddings",
        "the loss compares embeddings that were not normalised, so it changes their"
        " length instead of their direction",
        "normalise the embeddings before the similarity",
    )


def prototypes_are_not_unit(history: History) -> Verdict | None:
    """Check that prototypes have length 1."""
    length = history.recent("prototype_length")
    if length is None or abs(length - 1) <= LENGTH:
        return None
    return Verdict(
        "prototypes not normalised",
        f"prototypes are {length:.3f} long instead of 1",
        "they are not normalised again after a step",
        "declare UnitRows for their parameter",
    )


def queue_holds_the_batch(history: History) -> Verdict | None:
    """Check whether the queue that the loss reads holds the batch's own keys."""
    share = history.recent("queue_hits")
    if share is None or share < 0.5:
        return None
    return Verdict(
        "queue enqueued before the loss",
        f"{share:.0%} of the batch's own keys stand in the queue that the loss compares with",
        "keys are pushed before the loss, so each positive is also a negative",
        "push the keys after the loss, once a step",
    )


def variance_term_is_missing(history: History) -> Verdict | None:
    """Check that low variance raises the loss (for methods that log `variance`)."""
    short, loss = history.recent("variance"), history.recent("loss")
    if short is None or loss is None or _early(history, SETTLED // 2):
        return None
    # By the weight of the invariance term, since the variance's own weight may be the fault.
    weight: float = getattr(history.objective, "invariance", 0.0)
    due = weight * short
    if short < 0.5 or loss >= 0.5 * due:
        return None
    return Verdict(
        "missing variance term",
        f"features fall short of unit deviation by {short:.2f}, which should cost {due:.3g};"
        f" the loss is {loss:.3g}",
        "the variance term is missing from the loss or its weight is near zero, so features shrink",
        "give the variance the weight of the invariance (25 in the paper)",
    )


def targets_are_flat(history: History) -> Verdict | None:
    """Check whether the teacher's targets are uniform."""
    entropy, most = history.recent("teacher_entropy"), _log_prototypes(history)
    if entropy is None or most is None or _early(history, SETTLED):
        return None
    ratio = _temperature_ratio(history)
    missing = 1 - entropy / most
    if missing > 1 - UNIFORM or not (ratio >= 1 or missing < UNINFORMATIVE):
        return None
    if history.recent("prototype_length") is not None:
        return None  # balanced by Sinkhorn: the teacher temperature is not the cause
    return Verdict(
        "teacher temperature too high",
        f"the teacher's targets are flat: entropy {entropy:.4f} of at most ln K = {most:.4f},"
        f" and the loss is {history.last('loss') or math.nan:.4f}",
        "a higher temperature flattens the teacher's targets, and flat targets carry no"
        " information",
        "lower teacher_temperature (0.04 to 0.07), well under student_temperature",
    )


def targets_agree(history: History) -> Verdict | None:
    """Check whether all images get the same sharp assignment."""
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
        "nothing prevents one prototype from taking all images: the centre is not subtracted or"
        " updated",
        "subtract the running centre of the teacher's logits (centre_momentum about 0.9)",
    )


def steps_are_too_large(history: History) -> Verdict | None:
    """Check for steps that are large relative to the weights, or that end in a non-finite loss."""
    broke = history.last("not_finite") is not None
    moved = history.series("update/image")
    largest = max(moved, default=0.0)
    if not broke and largest < LARGE_UPDATE:
        return None
    settings = history.config.settings
    seen = [f"one step moved the encoder by {largest:.1%} of its weights (usual: up to 2%)"]
    if broke:
        seen.append("then the loss was not finite")
    return Verdict(
        "learning rate too high",
        ", ".join(seen if largest else seen[1:]),
        f"lr={settings.lr:g} is too high for {settings.optimizer} at batch {settings.batch}",
        f"try lr={settings.lr / 10:.2g} or a longer warmup",
    )


def embeddings_collapsed(history: History) -> Verdict | None:
    """Check whether different images get the same embedding."""
    spread, head = history.recent("spread"), history.recent("head_spread")
    rank = history.recent("head_rank")
    low = [
        f"{what} {value:.3g}"
        for what, value, least in (
            ("the encoder's spread is", spread, COLLAPSED_SPREAD),
            ("the head's spread is", head, COLLAPSED_SPREAD),
            ("the head's effective rank is", rank, COLLAPSED_RANK),
        )
        if value is not None and value < least
    ]
    if not low or _early(history, SETTLED // 2):
        return None
    return Verdict(
        "collapse",
        f"different images get the same embedding: {', '.join(low)} (unit rows that fill the"
        " sphere have spread 1)",
        "nothing in the loss keeps embeddings apart, or the learning rate is too high",
        "check lr and augmentation; compare with the method's recipe by twinlens train --show",
    )


def _early(history: History, steps: int) -> bool:
    """Tell whether fewer steps than `steps`, or than twice the warmup, are done."""
    return history.step < max(steps, 2 * history.config.settings.warmup)


def _log_prototypes(history: History) -> float | None:
    prototypes: Any = getattr(history.objective, "prototypes", None)
    return math.log(prototypes) if prototypes else None


def _temperature_ratio(history: History) -> float:
    """Return the teacher's temperature over the student's; 0 if the method has none."""
    objective: Any = history.objective
    teacher, student = (
        getattr(objective, name, None) for name in ("teacher_temperature", "student_temperature")
    )
    if not isinstance(teacher, Linear) or not isinstance(student, float):
        return 0.0
    return teacher.at(history.progress()) / student


Check = Callable[[History], Verdict | None]
CAUSES: tuple[Check, ...] = (
    data_are_constant,
    teacher_is_student,
    encoder_is_frozen,
    gradient_enters_targets,
    part_is_missing,
    row_length_affects_loss,
    prototypes_are_not_unit,
    queue_holds_the_batch,
    variance_term_is_missing,
    steps_are_too_large,
    targets_are_flat,
    targets_agree,
)
CONSEQUENCES: tuple[Check, ...] = (embeddings_collapsed,)
