"""Training by several processes: real ones, that talk through gloo on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from test_connect import files
from two_ranks import LOSSES, gradients, train
from worlds import two_memories

from cmcr.cli import main
from cmcr.connect import ConnectConfig
from cmcr.connect.batches import batch_size_for
from cmcr.errors import CmcrError, InputError
from cmcr.ranks import ALONE, joined
from cmcr.space.batch_norm import JointBatchNorm


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(command, rank, port, size=2):
    own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, *command],
        env=os.environ | own | place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Two ranks that computed everything; the second then dies without a word. (found of both, alone, outcomes)"""
    folder = tmp_path_factory.mktemp("ranks")
    train(ALONE, folder / "one", stop=True)
    port = free_port()
    ranks = [start([str(Path(__file__).with_name("two_ranks.py")), str(folder)], rank, port) for rank in range(2)]
    outcomes = [(*rank.communicate(timeout=120), rank.returncode) for rank in ranks]
    assert (folder / "found1").exists(), outcomes
    found = [torch.load(folder / f"found{rank}", weights_only=False) for rank in range(2)]
    return found, folder, outcomes


def test_ranks_gather_reduce_and_broadcast(run):
    found, _, _ = run
    parts = [one["input"] for one in found]
    for one in found:
        assert torch.equal(one["gather"], torch.cat(parts))
        assert torch.equal(one["sum"], parts[0] + parts[1])
        assert torch.equal(one["max"], -parts[0])
        assert one["broadcast"] == {"rank": 0}
    assert torch.equal(parts[1], torch.arange(6.0).reshape(3, 2) + 10)  # what was given stays as it was


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("name", LOSSES)
def test_two_ranks_have_the_gradients_and_statistics_of_one(run, name, dtype, close):
    alone = gradients(name, ALONE, dtype)
    for one in run[0]:
        assert one[name, dtype].keys() == alone.keys()
        scale = max(float(alone[key].abs().max()) for key in alone if key.endswith("weight"))
        for key, value in alone.items():
            assert torch.allclose(one[name, dtype][key], value, rtol=close, atol=close * scale), key
    assert all(torch.equal(run[0][0][name, dtype][key], run[0][1][name, dtype][key]) for key in alone)


def same(left, right):
    return left[1] == right[1] and all(torch.equal(left[0][key], right[0][key]) for key in left[0])


def close(left, right):
    losses = [[record["loss"] for record in history] for _, history in (left, right)]
    return losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_training_together_is_training_alone_but_for_rounding(run):
    found, _, _ = run
    assert close(found[0]["whole"], train(ALONE)) and len(found[0]["whole"][1]) == 3
    assert same(found[0]["whole"], found[1]["whole"])


def test_a_run_resumes_with_as_many_ranks_to_the_same_bytes_and_with_others_close(run):
    found, folder, _ = run
    for one in found:
        assert same(one["resumed"], one["whole"])
        assert close(one["of one"], one["whole"])
    first = found[0]["whole"][1][0]
    resumed_alone = train(ALONE, folder / "for one")
    assert close(resumed_alone, found[0]["whole"]) and resumed_alone[1][0] == first


def test_ranks_that_see_different_checkpoints_stop(run):
    assert "other checkpoint" not in run[0][0]
    assert "rank 1 finds another one than rank 0; put the run where all see it" in run[0][1]["other checkpoint"]


def test_a_lost_rank_is_named_by_the_others(run):
    (out, err, code), (_, _, lost) = run[2]
    assert (code, lost, out) == (1, 9, "")
    assert err == (
        "rank 0 lost rank 1 (killed, failed or unreachable); "
        "run the same command again, it goes on from the last finished epoch\n"
    )


def test_joint_batch_norm_is_batch_norm():
    plain = torch.nn.BatchNorm1d(5).double()
    joint = JointBatchNorm(torch.nn.BatchNorm1d(5).double(), ALONE)
    x = [torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    for layer, given in zip((plain, joint), x, strict=True):
        given.requires_grad_()
        (layer(given) ** 3).sum().backward()
    assert torch.allclose(x[0].grad, x[1].grad)
    for key, value in plain.state_dict().items():
        assert torch.allclose(value, joint.state_dict()[key]), key
    plain.eval(), joint.eval()
    assert torch.allclose(plain(x[0]), joint(x[0]))


def test_a_batch_must_be_shared_equally():
    with pytest.raises(InputError, match="batch size 33 cannot be shared equally by 2 processes"):
        batch_size_for(ConnectConfig(batch_size=33), 100, 2)
    with pytest.raises(InputError, match="2 overlap rows to train on are too few for 3 processes"):
        batch_size_for(ConnectConfig(), 2, 3)
    assert batch_size_for(ConnectConfig(), 2_000, 3) == 78
    assert batch_size_for(ConnectConfig(batch_size=34), 100, 2) == 34


@pytest.mark.parametrize("setting", [{}, {"WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}, {"WORLD_SIZE": "2"}])
def test_a_process_without_others_is_alone(monkeypatch, setting):
    for name in ("WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    with joined("cpu") as ranks:
        assert ranks == ALONE


def test_a_place_that_is_not_told_whole_is_one_line(monkeypatch):
    for name, value in {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(CmcrError, match=r"cannot join the other processes at 127.0.0.1:.*RANK.*; start them with"),
        joined("cpu"),
    ):
        pass


# The command line under torchrun -------------------------------------------------------------------------------------

FLAGS = ["--epochs", "40", "--batch-size", "100", "--device", "cpu", "--json"]


def torchrun(a, b, out, *flags, ranks=2):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [*launcher, "-m", "cmcr", "connect", str(a), str(b), "-o", str(out), *flags]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def process_of(rank, launcher):
    """Return the process id of a rank that `launcher` started."""
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher.pid and f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except (OSError, IndexError):
            continue
    raise AssertionError(f"no rank {rank}")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the ranks in /proc")
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_the_run_and_the_same_command_goes_on(tmp_path, victim):
    a, b, _ = two_memories(tmp_path / "mem")
    out, err = torchrun(a, b, tmp_path / "whole", *FLAGS).communicate(timeout=240)
    assert json.loads(out)["overlap_rows"] == 400, err
    launcher = torchrun(a, b, tmp_path / "s", *FLAGS)
    while not (tmp_path / "s.run" / "checkpoint.safetensors").exists() and launcher.poll() is None:
        time.sleep(0.02)
    os.kill(process_of(victim, launcher), signal.SIGKILL)
    out, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 1 and out == ""
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert told == [
        f"error: rank {1 - victim} lost rank {victim} (killed, failed or unreachable); "
        "run the same command again, it goes on from the last finished epoch"
    ]
    assert not (tmp_path / "s" / "config.json").exists()
    out, err = torchrun(a, b, tmp_path / "s", *FLAGS).communicate(timeout=240)
    assert files(tmp_path / "s") == files(tmp_path / "whole")
    assert files(tmp_path / "s.run") == files(tmp_path / "whole.run")
    # What was started together is finished alone: nothing is left to do, and the space is the same.
    assert main(["connect", str(a), str(b), "-o", str(tmp_path / "s"), *FLAGS]) == 0
    assert files(tmp_path / "s") == files(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--batch-size", "33"], "error: batch size 33 cannot be shared equally by 2 processes; use a multiple"),
        (["--tau", "0"], "error: tau 0.0; expected a number above 0"),
        (["--device", "tpu"], "error: unknown device 'tpu'; expected auto, cpu, cuda, mps"),
        (["--via", "image"], "error: --via image: not in both memories"),
    ],
)
def test_an_error_is_told_once(tmp_path, flags, message):
    a, b, _ = two_memories(tmp_path / "mem")
    port = free_port()
    command = ["-m", "cmcr", "connect", str(a), str(b), "-o", str(tmp_path / "s"), *flags]
    outcomes = [(*rank.communicate(timeout=120), rank.returncode) for rank in [start(command, r, port) for r in (0, 1)]]
    assert [(out, code) for out, _, code in outcomes] == [("", 1), ("", 1)]
    told = outcomes[0][1] + outcomes[1][1]
    assert told.startswith(message) and told.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", ["route", "linear"])
def test_a_method_without_training_is_the_work_of_rank_0(tmp_path, method):
    a, b, _ = two_memories(tmp_path / "mem")
    out, err = torchrun(a, b, tmp_path / "s", "--method", method, "--json").communicate(timeout=120)
    assert json.loads(out)["method"] == method and err.count("next: ") == 1
    assert main(["connect", str(a), str(b), "-o", str(tmp_path / "alone"), "--method", method]) == 0
    assert files(tmp_path / "s") == files(tmp_path / "alone")
