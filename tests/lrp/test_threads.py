"""Explainers are made and used in several threads: each result is that of one alone, and nothing is left changed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from lrpcli import Explainer

X = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 5))


class Slow(nn.Module):
    """Waits in its forward function until another thread is there too, or for a moment: it may not come."""

    def __init__(self):
        super().__init__()
        self.net, self.calls = net(), threading.Barrier(2)

    def forward(self, x):
        try:
            self.calls.wait(timeout=0.2)
        except threading.BrokenBarrierError:
            self.calls.reset()
        return self.net(x)


def test_what_the_process_has_once_is_as_it_was():
    """torch's compiler, the mode of a shared module and its buffers."""
    torch.compile(lambda x: x)  # loads it
    stance = torch._dynamo.eval_frame._stance
    shared = Slow().train()
    with torch.no_grad():
        expected = Explainer(net(), "epsilon")(X).relevance
    buffers = dict(shared.named_buffers())
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: Explainer(shared, "epsilon")(X).relevance, range(4)))
    for one in found:
        torch.testing.assert_close(one, expected)
    assert torch._dynamo.eval_frame._stance == stance
    assert all(part.training for part in shared.modules())
    assert all(buffer is buffers[name] for name, buffer in shared.named_buffers())


def test_threads_share_an_explainer():
    """The first image of each is compared with the model's own logits, by whichever thread comes first."""
    module = Slow().eval()
    explainer = Explainer(module, "epsilon")
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: explainer(X).relevance, range(4)))
    for one in found[1:]:
        torch.testing.assert_close(one, found[0], rtol=0, atol=0)


def test_a_module_runs_in_another_thread_while_it_is_traced():
    """torch.fx takes over the calls and parameters of all modules of the process."""
    waiting, traced = threading.Event(), threading.Event()
    tracing = threading.get_ident()

    class Traced(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net().eval()

        def forward(self, x):
            if threading.get_ident() == tracing and not traced.is_set():
                waiting.set()
                traced.wait(timeout=60)
            return self.net(x) + self.net[0].bias.sum()

    module = Traced()
    found = []

    def run():
        waiting.wait(timeout=60)
        try:
            with torch.no_grad():
                found.append(module(X))
        finally:
            traced.set()

    thread = threading.Thread(target=run)
    thread.start()
    explainer = Explainer(module, "epsilon")
    thread.join()
    with torch.no_grad():
        torch.testing.assert_close(found, [module(X)])
    torch.testing.assert_close(explainer(X).logits, found[0])
