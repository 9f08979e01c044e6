"""Where and how precisely torch computes."""

import os
import subprocess
import sys

import pytest

ATTENTION = """
import torch
from cmcr.devices import inference
torch.manual_seed(0)
linear = torch.nn.Linear(64, 64)
heads = torch.randn(2, 4, 70, 64)
def attend():
    rows = linear(heads)
    return torch.nn.functional.scaled_dot_product_attention(rows, rows, rows)
with inference("cpu"):
    exact = attend()
with inference("cpu", "bf16"):
    lower = attend()
assert lower.dtype == torch.bfloat16, lower.dtype
assert torch.allclose(exact, lower.float(), atol=0.02), (exact - lower).abs().max()
"""


@pytest.mark.parametrize("capability", ["default", "avx2", "avx512"])
def test_attention_in_bf16_runs_whatever_instructions_torch_is_told_to_use(capability):
    # torch reads the variable once, when it is imported: so in a process of its own.
    run = subprocess.run(
        [sys.executable, "-c", ATTENTION],
        env=os.environ | {"ATEN_CPU_CAPABILITY": capability},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-1500:]
