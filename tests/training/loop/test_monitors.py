"""Online monitors: what they cost, learn and keep."""

from __future__ import annotations

import torch

from tests.training.family import small_batch, small_config, small_network
from twinlens.training.loop.monitors import Monitors
from twinlens.training.seeds import generator


def test_monitors_do_not_change_the_encoder() -> None:
    config = small_config("simclr", encoder="resnet-tiny")
    net = small_network(config)
    rows, _ = net(small_batch(config, 8, torch.float32))
    assert not rows["representation"].requires_grad


def test_monitors_stay_within_their_share_of_the_time() -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 1.0  # every look at the clock takes a second
        return now[0]

    monitors = Monitors(0, 0.02, clock)
    rows = torch.randn(16, 2, 8, generator=generator(0))
    labels = torch.full((16,), -1)
    observed = [bool(monitors.observe(rows, labels)) for _ in range(400)]
    assert observed[0] and monitors.spent <= 0.02 * now[0] + 1
    assert 2 <= sum(observed) <= 12


def test_the_online_probe_learns_separable_classes() -> None:
    draws = generator(0)
    centres = torch.randn(3, 8, generator=draws) * 3
    monitors = Monitors(3, 1e9)
    numbers: dict[str, float] = {}
    for _ in range(60):
        labels = torch.randint(0, 3, (64,), generator=draws)
        rows = centres[labels] + torch.randn(64, 8, generator=draws)
        numbers = monitors.observe(rows[:, None], labels)
    assert numbers["probe"] > 0.9 and numbers["knn"] > 0.9
    assert 1 < numbers["rank"] < 8


def test_monitors_resume_where_they_stopped() -> None:
    draws = generator(0)
    centres = torch.randn(3, 8, generator=draws) * 3
    labels = torch.randint(3, (200, 400), generator=draws)
    batches = [centres[own][:, None] + torch.randn(400, 1, 8, generator=draws) for own in labels]
    straight, first = Monitors(3, 1e9), Monitors(3, 1e9)
    for rows, own in zip(batches[:4], labels, strict=False):
        straight.observe(rows, own)
        first.observe(rows, own)
    later = Monitors(3, 1e9)
    later.restore(first.state(), torch.device("cpu"))
    assert later.observe(batches[4], labels[4]) == straight.observe(batches[4], labels[4])
    fresh = Monitors(3, 1e9).observe(batches[4], labels[4])
    assert "knn" not in fresh and fresh["probe"] < 0.7
    assert Monitors(3, 1e9).state() == {}
