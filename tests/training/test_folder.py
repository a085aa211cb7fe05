"""What differs between a process that works alone and one of several: two implementations of one protocol each."""

import inspect

import pytest

from jaxseg.runs.checkpoint import Checkpoints, CheckpointStore, NoCheckpoints
from jaxseg.system.processes import Alone, Joined, Peers, SharedStop
from jaxseg.system.stop import Stop, StopRequest
from jaxseg.training.folder import NoFolder, OwnedFolder, RunFolder, run_folder


class _Second(Alone):
    number = 1


@pytest.mark.parametrize(
    ("protocol", "implementations"),
    [
        (Peers, (Alone, Joined)),
        (Stop, (StopRequest, SharedStop)),
        (RunFolder, (OwnedFolder, NoFolder)),
        (CheckpointStore, (Checkpoints, NoCheckpoints)),
    ],
)
def test_both_implementations_take_the_same_calls(protocol, implementations):
    """If broken, a method that the training loop calls is missing, or takes other arguments, in one kind of process."""
    methods = [name for name, member in vars(protocol).items() if inspect.isfunction(member) and name[0] != "_"]
    assert methods
    for implementation in implementations:
        assert not set(implementation.__mro__) & set(implementations) - {implementation}
        for name in methods:
            want, got = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (protocol, implementation))
            assert got == want, (implementation, name)


def test_only_the_first_process_has_a_folder(tiny, tmp_path):
    """If broken, the other processes of a job write files, or need to read the first one's disk."""
    folder = run_folder(tmp_path / "run", _Second())
    with folder.held(), folder.checkpoints() as checkpoints:
        assert folder.resolve(tiny, ()) is None
        assert list(folder.writers(images=None)) == []
        assert checkpoints.latest() is None
    assert list(tmp_path.iterdir()) == []
    assert isinstance(run_folder(tmp_path / "run", Alone()), OwnedFolder)
