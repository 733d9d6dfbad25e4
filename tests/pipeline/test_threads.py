"""How many threads a net gets."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lrpcli.pipeline.threads import MANY, multiplications, share_threads, suitable_threads

NET = nn.Sequential(
    nn.Conv2d(3, 8, 5, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 12, 3, groups=4), nn.Flatten(), nn.Linear(1200, 7)
).eval()  # fmt: skip


@pytest.fixture
def four_threads(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def test_multiplications_are_those_that_torch_counts():
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        NET(torch.zeros(1, 3, 25, 25))
    assert 2 * multiplications(NET, (3, 25, 25)) == counter.get_total_flops()
    assert not any(layer._forward_hooks for layer in NET.modules())


def test_large_nets_keep_all_threads_and_small_ones_one():
    assert [suitable_threads(8, count) for count in (1, 300e6, 1e12, 0)] == [1, 4, 8, 8]


@pytest.mark.usefixtures("four_threads")
def test_a_small_net_leaves_the_processors_to_decoding():
    share_threads(NET, (3, 25, 25), MANY - 1)
    assert torch.get_num_threads() == 4
    share_threads(NET, (3, 25, 25), MANY)
    assert torch.get_num_threads() == 1


@pytest.mark.usefixtures("four_threads")
def test_what_the_user_says_of_threads_holds(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    share_threads(NET, (3, 25, 25), MANY)
    assert torch.get_num_threads() == 4


@pytest.mark.usefixtures("four_threads")
def test_a_net_that_cannot_be_run_is_no_matter_yet():
    share_threads(NET, (5, 25, 25), MANY)
    assert torch.get_num_threads() == 4
    assert not any(layer._forward_hooks for layer in NET.modules())
