"""A GPU that is not there: its tensors compute on the CPU, say that they do not, and refuse to meet the CPU's.

    with pretend_gpu():
        torch.zeros(3, device=GPU) + torch.zeros(3)  # an error, as on a real one

So code for a GPU runs whole where there is none, values and all, and fails where it forgets a tensor on the CPU. As
on a real device: what crosses is a copy, `.numpy()` is an error, and numbers (tensors without axes) go with any device.
Stricter than a real one: indices on the CPU are refused. (Torch's own FakeTensorMode has no values, and in a build
without CUDA it cannot index its tensors.)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

CPU, GPU = torch.device("cpu"), torch.device("cuda")
CROSSING = (Tensor.to, Tensor.cpu, Tensor.copy_)


class There(Tensor):
    """A tensor of that device."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


class _Mode(TorchFunctionMode):
    """For what has no tensor of that device among its arguments: `torch.zeros(3, device=GPU)`, `x.to(GPU)`."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(function, args, kwargs or {})


@contextmanager
def pretend_gpu() -> Iterator[None]:
    """In this block and thread."""
    with _Mode():
        yield


def _run(function: Any, args: Any, kwargs: Any) -> Any:
    with torch._C.DisableTorchFunctionSubclass():
        return _on_either(function, args, kwargs)


def _on_either(function: Any, args: Any, kwargs: Any) -> Any:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
    there = any(isinstance(x, There) for x in tensors)
    if function == Tensor.device.__get__:
        return GPU if there else CPU
    if there and function is Tensor.numpy:
        raise TypeError(f"a tensor on {GPU} has no numpy array")
    if there and function not in CROSSING and any(x.dim() and not isinstance(x, There) for x in tensors):
        raise RuntimeError(f"{function}: tensors on {GPU} and on {CPU}; expected all on the same device")
    asked = kwargs.get("device")
    if asked is not None:
        kwargs = kwargs | {"device": CPU}
    elif function is Tensor.cpu:
        asked = CPU
    elif function is Tensor.to:
        asked = next((x for x in args[1:] if isinstance(x, str | torch.device)), None)
        args = tuple(CPU if x is asked else x for x in args)
    after = there if asked is None else torch.device(asked).type == GPU.type
    out = function(*args, **kwargs)
    if function is Tensor.copy_:
        return out
    if tensors and after != there:
        out = out.clone()
    kind = There if after else Tensor
    return tree_map(lambda x: x.as_subclass(kind) if isinstance(x, Tensor) and type(x) is not kind else x, out)
