"""Writes torch_*.pt, small files in every layout and protocol that the reader of PyTorch files knows, each beside the
same tensors as torch_*.safetensors, written by the safetensors library. Needs torch and safetensors. Seeded; the .pt files
are not byte-stable, as PyTorch puts addresses into the legacy layout.

    python make_pickles.py [folder]
"""

import argparse
import datetime
import sys
import types
import uuid
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent)


def dtypes():
    """One tensor of every dtype, with the extreme values that a wrong width or sign would change."""
    floats = torch.tensor([0.0, -1.5, 3.140625, float("inf")])
    d = OrderedDict((str(t)[6:], floats.to(t)) for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16))
    for t in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        d[str(t)[6:]] = torch.tensor([torch.iinfo(t).min, 7, torch.iinfo(t).max], dtype=t)
    d["bool"] = torch.tensor([True, False, True])
    d["scalar"] = torch.tensor(2.5)
    d["empty"] = torch.zeros(0, 3)
    return d


def views():
    """Views that share one storage: whole, transposed, sliced, stepped, repeated, and a tied parameter."""
    base = torch.arange(24, dtype=torch.float32)
    half = torch.arange(60, dtype=torch.float64).reshape(3, 4, 5)
    return {
        "whole": base,
        "matrix": base.view(4, 6),
        "transposed": base.view(4, 6).t(),
        "slice": base[5:11],
        "stepped": base.view(4, 6)[1::2, ::3],
        "repeated": base[3:4].expand(2, 3),
        "permuted": half.permute(2, 0, 1)[1:4],
        "parameter": torch.nn.Parameter(base),
    }


def nested():
    """A checkpoint as trainers write it: a module's state dict with its version attribute, beside other things."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    return {
        "epoch": 3,
        "best": 0.25,
        "name": "größe",
        "flag": True,
        "nothing": None,
        "big": 2**70,
        "negative": -2**40,
        "dtype": torch.bfloat16,
        "shape": torch.Size([2, 3]),
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [torch.ones(2), (torch.zeros(1), 5)],
    }


def beside():
    """Tensors with attributes, in a dictionary of another class, beside what training programs leave that is no tensor."""
    tensor, parameter = torch.arange(3.), torch.nn.Parameter(torch.ones(2, 2))
    tensor.tag, parameter.frozen = "a", True
    return defaultdict(dict, {"tensor": tensor, "parameter": parameter, "seen": {1, 2}, "counts": Counter("aab"), "on": torch.device("cpu")})


def python():
    """What Python's own types, numpy's and settings look like in each protocol, beside one tensor."""
    tensor, text = torch.ones(2), "x" * 300
    return {
        "tensor": tensor,
        "sets": [{1, 2}, set(), frozenset({"a", (1, (2, (3, (4, 5, 6, 7))))}), frozenset()],
        "bytes": [b"abc", b"", b"x" * 300, bytearray(b"abc"), bytearray()],
        "texts": [text, text, "größe" * 100],
        "numbers": [1 + 2j, 2**2100, -2**70, range(3), slice(1, 2), Decimal("1.5"), Fraction(1, 2)],
        "keys": {(1, "a"): 1, True: 2, None: 3, 1.5: 4, b"a": 5, frozenset({1}): 6, int: 7, "tensor": tensor},
        "names": [int, str, float, bool, tuple, list, dict, set, frozenset, bytes, complex, object, type(None), ..., NotImplemented],
        "torch": [torch.float16, torch.float8_e4m3fn, torch.complex64, torch.uint16, torch.strided, torch.device("cuda:0")],
        "settings": [argparse.Namespace(a=1, b=[2]), types.SimpleNamespace(a=1), PurePosixPath("/a"), PureWindowsPath("a")],
        "times": [datetime.datetime(2024, 1, 1), datetime.timedelta(1), datetime.date(2024, 1, 1), uuid.UUID(int=1)],
        "numpy": [np.float32(1), np.int64(3), np.bool_(True), np.arange(6.0).reshape(2, 3), np.array(["ab"]), np.dtype("int8")],
        "seeds": [np.random.RandomState(0).get_state(), np.random.default_rng(0).bit_generator.state],
        "queue": deque([1, 2]),
        "counts": defaultdict(int, a=1),
    }


def leaves(value, path=()):
    if isinstance(value, torch.Tensor):
        dtype = torch.int32 if value.dtype == torch.int16 else value.dtype
        yield ".".join(path), value.detach().to(dtype).clone().contiguous()
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, str(key)))
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from leaves(item, (*path, str(i)))


class Untyped:
    """A bfloat16 tensor over an untyped storage, as PyTorch saves the dtypes that have no storage class."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        t = self.tensor
        args = t.untyped_storage(), t.storage_offset(), t.size(), t.stride(), False, OrderedDict(), t.dtype
        return torch._utils._rebuild_tensor_v3, args


for make, protocols in (dtypes, (2,)), (views, (2,)), (nested, (2, 3, 4, 5)), (beside, (2, 3)), (python, (2, 3, 4, 5)):
    value, name = make(), make.__name__
    save_file(dict(leaves(value)), FOLDER / f"torch_{name}.safetensors")
    for protocol in protocols:
        torch.save(value, FOLDER / f"torch_{name}_zip{protocol}.pt", pickle_protocol=protocol)
        torch.save(
            value,
            FOLDER / f"torch_{name}_legacy{protocol}.pt",
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=False,
        )

untyped = torch.arange(12).to(torch.bfloat16)
save_file({"a": untyped[3:]}, FOLDER / "torch_untyped.safetensors")
torch.save({"a": Untyped(untyped[3:])}, FOLDER / "torch_untyped_zip2.pt")

# What a tensor saved on a GPU looks like.
torch.serialization.location_tag = lambda storage: "cuda:1"
save_file({"a": torch.arange(3)}, FOLDER / "torch_cuda.safetensors")
torch.save({"a": torch.arange(3)}, FOLDER / "torch_cuda_zip2.pt")

# Over an untyped storage, so rebuilt by _rebuild_tensor_v3: no dtype of ours, refused by name.
torch.save({"a": torch.tensor([1, 2], dtype=torch.uint16)}, FOLDER / "torch_refused_uint16.pt")
torch.save(torch.nn.Linear(2, 2), FOLDER / "torch_refused_module.pt")
torch.save({"a": torch.view_as_complex(torch.ones(2, 2)).conj()}, FOLDER / "torch_refused_conj.pt")
torch.jit.script(torch.nn.Linear(2, 2)).save(FOLDER / "torch_script.pt")
