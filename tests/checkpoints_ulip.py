"""Random checkpoints in the official layouts of ULIP and ULIP-2, written without the code that reads them."""

import argparse
import math
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Size:
    """The released sizes, or the smallest that still have every part."""

    point_width: int = 384
    point_depth: int = 12
    group_width: int = 256
    image_width: int = 768
    image_depth: int = 12
    patch: int = 16
    side: int = 224
    text_width: int = 512
    text_depth: int = 12
    dim: int = 512


SMALL = Size(64, 2, 32, 64, 2, 16, 48, 64, 2, 512)


def linear(name, out, into, bias=True):
    return {f"{name}.weight": (out, into), **({f"{name}.bias": (out,)} if bias else {})}


def norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def batch_norm(name, width):
    return norm(name, width) | {
        f"{name}.running_mean": (width,),
        f"{name}.running_var": (width,),
        f"{name}.num_batches_tracked": (),
    }


def convolution(name, out, into):
    return {f"{name}.weight": (out, into, 1), f"{name}.bias": (out,)}


def timm_block(name, width, qkv_bias):
    return (
        norm(f"{name}.norm1", width)
        | linear(f"{name}.attn.qkv", 3 * width, width, qkv_bias)
        | linear(f"{name}.attn.proj", width, width)
        | norm(f"{name}.norm2", width)
        | linear(f"{name}.mlp.fc1", 4 * width, width)
        | linear(f"{name}.mlp.fc2", width, 4 * width)
    )


def clip_block(name, width):
    return (
        {f"{name}.attn.in_proj_weight": (3 * width, width), f"{name}.attn.in_proj_bias": (3 * width,)}
        | linear(f"{name}.attn.out_proj", width, width)
        | norm(f"{name}.ln_1", width)
        | linear(f"{name}.mlp.c_fc", 4 * width, width)
        | linear(f"{name}.mlp.c_proj", width, 4 * width)
        | norm(f"{name}.ln_2", width)
    )


def point_shapes(size):
    """point_encoder.* and pc_projection."""
    own, width, group = "point_encoder", size.point_width, size.group_width
    shapes = {f"{own}.cls_token": (1, 1, width), f"{own}.cls_pos": (1, 1, width)}
    shapes |= convolution(f"{own}.encoder.first_conv.0", 128, 3) | batch_norm(f"{own}.encoder.first_conv.1", 128)
    shapes |= convolution(f"{own}.encoder.first_conv.3", 256, 128)
    shapes |= convolution(f"{own}.encoder.second_conv.0", 512, 512) | batch_norm(f"{own}.encoder.second_conv.1", 512)
    shapes |= convolution(f"{own}.encoder.second_conv.3", group, 512) | linear(f"{own}.reduce_dim", width, group)
    shapes |= linear(f"{own}.pos_embed.0", 128, 3) | linear(f"{own}.pos_embed.2", width, 128)
    for block in range(size.point_depth):
        shapes |= timm_block(f"{own}.blocks.blocks.{block}", width, qkv_bias=False)
    return shapes | norm(f"{own}.norm", width) | {"pc_projection": (2 * width, size.dim)}


def image_shapes(size):
    """visual.* and image_projection."""
    width, patches = size.image_width, (size.side // size.patch) ** 2
    shapes = {"visual.cls_token": (1, 1, width), "visual.pos_embed": (1, 1 + patches, width)}
    shapes |= {"visual.patch_embed.proj.weight": (width, 3, size.patch, size.patch)}
    shapes |= {"visual.patch_embed.proj.bias": (width,)}
    for block in range(size.image_depth):
        shapes |= timm_block(f"visual.blocks.{block}", width, qkv_bias=True)
    return shapes | norm("visual.norm", width) | {"image_projection": (width, size.dim)}


def text_shapes(size):
    """transformer.*, the embeddings, ln_final and text_projection."""
    width = size.text_width
    shapes = {"positional_embedding": (77, width), "token_embedding.weight": (49408, width)}
    for block in range(size.text_depth):
        shapes |= clip_block(f"transformer.resblocks.{block}", width)
    return shapes | norm("ln_final", width) | {"text_projection": (width, size.dim)}


def random_tensor(name, shape, generator):
    """Values at which every layer passes its input on: norms near one, products by their inputs."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1000)
    if name.endswith("running_var"):
        return torch.rand(shape, generator=generator) + 0.5
    if len(shape) == 1:
        return torch.randn(shape, generator=generator) * 0.1 + float(name.endswith("weight"))
    if "_projection" in name:  # (in, out), the other way round
        return torch.randn(shape, generator=generator) / math.sqrt(shape[0])
    scale = 1.0 if "embed" in name or "cls" in name else 1 / math.sqrt(math.prod(shape[1:]))
    if "patch_embed" in name:
        scale = 1 / math.sqrt(math.prod(shape[1:]))
    return torch.randn(shape, generator=generator) * scale


def ulip_state(*, layout="ulip-2", small=True, seed=0):
    """The state dict without ``module.``: all towers (ulip-2), or the point cloud's alone (ulip-1)."""
    size = SMALL if small else Size()
    shapes = {"logit_scale": ()}
    if layout == "ulip-2":
        shapes |= text_shapes(size) | image_shapes(size)
    shapes |= point_shapes(size)
    generator = torch.Generator().manual_seed(seed)
    return {name: random_tensor(name, shape, generator) for name, shape in shapes.items()}


def write_ulip(path, *, layout="ulip-2", small=True, module_prefix=True, seed=0):
    """Write what ULIP's trainer saves, and return the state dict (without ``module.``)."""
    state = ulip_state(layout=layout, small=small, seed=seed)
    prefix = "module." if module_prefix else ""
    moments = {key: torch.zeros_like(state["pc_projection"]) for key in ("exp_avg", "exp_avg_sq")}
    torch.save(
        {
            "epoch": 250,
            "state_dict": {prefix + name: value for name, value in state.items()},
            "optimizer": {
                "state": {0: {"step": torch.tensor(100.0), **moments}},
                "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.98), "eps": 1e-8, "weight_decay": 0.1, "params": [0]}],
            },
            "scaler": {"scale": 65536.0, "growth_factor": 2.0, "growth_interval": 2000, "_growth_tracker": 12},
            "best_acc1": 75.6,
            "args": argparse.Namespace(model="ULIP_PointBERT", npoints=8192, betas=(0.9, 0.98), wandb=False, gpu=None),
        },
        path,
    )
    return state


def faint(state):
    """The same with tokens and variances so small that the epsilons of the norms act."""
    weak = (
        "attn.proj",
        "attn.out_proj",
        "mlp.fc2",
        "mlp.c_proj",
        "reduce_dim",
        "patch_embed",
        "pos_embed",
        "embedding",
    )
    weak += ("cls_token", "cls_pos", "running_var", "first_conv.0", "second_conv.0", "first_conv.3")
    return {name: value * (1e-3 if any(part in name for part in weak) else 1) for name, value in state.items()}
