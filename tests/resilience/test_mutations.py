"""Damaged files of every kind are read or refused; mutations.py does the same by hand, for all targets or some."""

import pytest

from tests.resilience.mutations import COUNT, TARGETS, kept, mutated, outcomes

SLOW = {"evaluation": 40}
"""Targets that run whole commands, and how many of their mutations are enough."""
SAMPLE = b"".join(b"dim: %d " % number for number in range(50))


def check(name: str, count: int) -> None:
    if name == "hdf5":
        pytest.importorskip("h5py")
    if name == "pt2":
        pytest.importorskip("torch.export.pt2_archive", reason="before PyTorch 2.8 torch.export writes pickles")
    found = outcomes(name, count)
    wrong = {number: text for number, text in found.items() if text not in ("read", "refused")}
    assert not wrong, "\n".join(f"{name} {number}: {text}" for number, text in wrong.items())
    assert sorted(found) == list(range(count + len(kept(name))))
    # The damage matters, and not always; but where others are whole, a damaged journal is read as far as it goes.
    assert count < COUNT or name == "shard" or len(set(found.values())) == 2


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - SLOW))
def test_a_few_mutations_of_every_kind_of_file(name) -> None:
    check(name, 20)


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_many_mutations_of_every_kind_of_file(name) -> None:
    check(name, SLOW.get(name, COUNT))


def test_a_mutation_can_be_made_again() -> None:
    files = {number: mutated("any", number, SAMPLE, b"other" * 50) for number in range(50)}
    assert files == {number: mutated("any", number, SAMPLE, b"other" * 50) for number in range(50)}
    assert len(set(files.values())) > 45


def test_what_goes_wrong_is_found(tmp_path, monkeypatch) -> None:
    """A reader that hangs, dies or raises anything else is told apart, and the rest goes on."""
    code = tmp_path / "sitecustomize.py"
    code.write_text(
        "import os, sys\n"
        "if '--batch' in sys.orig_argv:\n"
        "    from tests.resilience import mutations\n"
        "    calls = []\n"
        "    def read(path):\n"
        "        calls.append(path)\n"
        "        number = len(calls) - 2 + int(sys.orig_argv[-3])\n"
        "        if len(calls) == 1: mutations.SECONDS = 1\n"
        "        elif number == 1: raise KeyError(number)\n"
        "        elif number == 2: os.kill(os.getpid(), 11)\n"
        "        elif number == 3:\n"
        "            while True: pass\n"
        "        elif number == 4: raise mutations.LrpError('no')\n"
        "    mutations.TARGETS['labels'] = mutations.Target('.txt', mutations._labels, read)\n"
    )
    from tests.resilience import mutations
    from tests.resilience.runs import environment

    monkeypatch.setattr(mutations, "environment", lambda: environment(path=[tmp_path]))
    # `python -m` runs the module anew, so the batch is started from the one that was changed.
    monkeypatch.setattr(mutations, "START", ["-c", "import sys; from tests.resilience import mutations as m; "
                                                   "m.begin_batch(sys.argv[1:])"])  # fmt: skip
    found = outcomes("labels", 6)
    assert [found[0], found[2], found[3], found[4], found[5]] == [
        "read", "died of signal 11", "took too long", "refused", "read",
    ]  # fmt: skip
    assert "KeyError: 1" in found[1]
