"""Small nets gain nothing from threads, and lose much where other work runs beside the tests."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def same_random_numbers():
    """In every test, whichever ran before it in the same process."""
    torch.manual_seed(0)
