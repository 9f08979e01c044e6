"""What processes that train together tell each other; a run of one process is the case of a single rank."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

import torch
from torch import Tensor

from cmcr.errors import CmcrError, InputError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

Value = TypeVar("Value")

TIMEOUT = timedelta(minutes=10)
"""How long a rank waits for the others in a step; also for them to start."""
ROLL_CALL = 15.0
"""Seconds in which ranks answer when one seems lost; torchrun kills after 30."""
LINGER = 2.0
"""Seconds that rank 0 stays for the others to read why it ends."""


class LostRankError(CmcrError):
    """Another process of this run is gone."""


@dataclass(frozen=True)
class Ranks:
    """One process among those that train together; alone it talks to nobody.

    >>> import torch
    >>> from cmcr.ranks import Ranks
    >>> Ranks().reduce(torch.tensor([1.0, 2.0])), Ranks().broadcast(lambda: "from rank 0")
    (tensor([1., 2.]), 'from rank 0')

    Attributes:
        rank: This process, from 0.
        size: How many there are.
        store: Where they leave each other notes.
    """

    rank: int = 0
    size: int = 1
    store: Store | None = field(default=None, repr=False, compare=False)

    def gather(self, x: Tensor) -> Tensor:
        """Return the rows of all ranks in rank order, (size * n, D) from (n, D); no gradient passes."""
        if self.size == 1:
            return x
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(self.size)]
        with _hearing():
            torch.distributed.all_gather(parts, x.detach().contiguous())
        return torch.cat(parts)

    def reduce(self, x: Tensor, how: Literal["sum", "max"] = "sum") -> Tensor:
        """Return the element-wise sum or maximum over all ranks; no gradient passes."""
        if self.size == 1:
            return x
        total = x.detach().clone(memory_format=torch.contiguous_format)
        with _hearing():
            operation = torch.distributed.ReduceOp.SUM if how == "sum" else torch.distributed.ReduceOp.MAX
            torch.distributed.all_reduce(total, operation)
        return total

    def broadcast(self, make: Callable[[], Value]) -> Value:
        """Return what ``make`` returns on rank 0, the only one to call it."""
        if self.size == 1:
            return make()
        held: list[Any] = [make() if self.rank == 0 else None]
        with _hearing():
            torch.distributed.broadcast_object_list(held, src=0)
        value: Value = held[0]
        return value

    def let_go(self) -> None:
        """On rank 0: let the ranks in ``wait`` go on."""
        if self.store is not None:
            self.store.add("let go", 1)

    def wait(self) -> None:
        """On another rank: wait, for hours if need be, for the ``let_go`` of rank 0."""
        assert self.store is not None  # noqa: S101  (alone there is no other rank)
        with _hearing():
            turn = self.store.add(f"waits {self.rank}", 1)
            while self.store.add("let go", 0) < turn:
                if self.store.check(["told"]):
                    raise LostRankError("another rank failed")
                time.sleep(0.1)

    def tells(self) -> bool:
        """Tell whether it is this rank that explains why the run ends: the first to ask. The others then know."""
        assert self.store is not None  # noqa: S101
        try:
            first = self.store.compare_set("told", "", str(self.rank)) == str(self.rank).encode()
            self.store.add("know", 1)
            # Without torchrun, which does, rank 0 keeps the notes: those who look must find them.
            if self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
                end = time.monotonic() + LINGER
                while self.store.add("know", 0) < self.size and time.monotonic() < end:
                    time.sleep(0.1)
        except RuntimeError:
            return True
        return first

    def missing(self, certain: int) -> list[int] | None:
        """Call the roll: return the ranks that do not answer in time, None if one of them has told why it ends.

        Args:
            certain: So many are known to be lost: fewer are waited for.
        """
        assert self.store is not None  # noqa: S101
        end = time.monotonic() + ROLL_CALL
        try:
            self.store.set(f"here {self.rank}", "")
            while True:
                absent = [rank for rank in range(self.size) if not self.store.check([f"here {rank}"])]
                if self.store.check(["told"]):
                    self.store.add("know", 1)
                    return None
                if len(absent) <= certain or time.monotonic() > end:
                    return absent
                time.sleep(0.1)
        except RuntimeError:
            return [0]  # it keeps the notes, or the launcher beside it does


ALONE = Ranks()


class _TerminatedError(BaseException):
    """SIGTERM: torchrun sends it to all when one process of a run is gone."""


@contextlib.contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the processes that torchrun started together; without it (no WORLD_SIZE or 1) this process is alone.

    However the run ends, every rank ends: what one rank reports as an error the others do not repeat, and a rank that
    vanishes is named by the others. After an error the process does no more than tell it and end.

    Args:
        device: As for ``choose_device``. CUDA talks through NCCL, each rank on the GPU of its LOCAL_RANK; a CPU
            through gloo.

    Raises:
        CmcrError: the processes do not find each other.
        LostRankError: a rank is gone.
        SystemExit: another rank has told why the run ends.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) < 2 or not os.environ.get("MASTER_ADDR"):
        yield ALONE
        return
    ranks = _join(device)
    try:
        with _ends_together(ranks):
            yield ranks
    except BaseException as error:
        atexit.register(_leave, 130 if isinstance(error, KeyboardInterrupt) else 1)
        raise
    torch.distributed.destroy_process_group()


@contextlib.contextmanager
def _ends_together(ranks: Ranks) -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    except (LostRankError, _TerminatedError) as error:
        # From here on this process ends by itself: the launcher's SIGTERM must not cut its last words off.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(ranks, certain=int(isinstance(error, LostRankError)))
    except (CmcrError, OSError, KeyboardInterrupt):
        if ranks.tells():
            raise
        raise SystemExit(1) from None
    else:
        signal.signal(signal.SIGTERM, before)


def _leave(code: int) -> None:
    """End the process once all is said: threads of a broken process group now and then abort it as it shuts down."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _join(device: str) -> Ranks:
    cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    if not cuda and device in ("auto", "mps") and torch.backends.mps.is_available():
        raise InputError(f"--device {device} is mps, on which only one process trains; start one, or use --device cpu")
    from torch.distributed.rendezvous import rendezvous

    # NCCL's default is to end the process from a thread, without a word that a user understands.
    os.environ.setdefault("TORCH_NCCL_BLOCKING_WAIT", "1")
    try:
        if cuda:
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK") or 0))
        store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
        with _quiet_stdout():
            torch.distributed.init_process_group(
                "nccl" if cuda else "gloo", store=store, rank=rank, world_size=size, timeout=TIMEOUT
            )
    except (RuntimeError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ.get('MASTER_PORT', '')}"
        reason = str(error).partition("\n")[0]
        raise CmcrError(f"cannot join the other processes at {where}: {reason}; start them with torchrun") from error
    return Ranks(rank, size, store)


@contextlib.contextmanager
def _quiet_stdout() -> Iterator[None]:
    """Keep what gloo prints as it connects away from stdout, which is for data."""
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def _hearing() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise LostRankError(str(error).partition("\n")[0]) from error


def _terminated(number: int, frame: object) -> NoReturn:
    raise _TerminatedError


def _end(ranks: Ranks, certain: int) -> NoReturn:
    """End because another rank did: say which, unless the reason has been told."""
    missing = ranks.missing(certain)
    again = "run the same command again, it goes on from the last finished epoch"
    if missing:
        names = ", ".join(map(str, missing))
        raise LostRankError(f"rank {ranks.rank} lost rank {names} (killed, failed or unreachable); {again}") from None
    if missing is None or not ranks.tells():
        raise SystemExit(1) from None
    raise CmcrError(f"stopped by SIGTERM; {again}") from None
