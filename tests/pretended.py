"""A GPU of shapes alone: CPU tensors are real, CUDA tensors are fake, and what the host asks of the device is counted.

Nothing is computed there and no driver is needed. An operation between the two sides fails as it does on a real one.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

import tokenizers_zoo
from tokenizers_zoo.blocks.conv1d import LSTM

aten = torch.ops.aten
HOME = str(Path(tokenizers_zoo.__file__).parent)
RECURRENT = "torch.nn.utils.rnn"
NUMBER, PLACES, COPY = aten._local_scalar_dense.default, aten.nonzero.default, aten._to_copy.default


@contextmanager
def pretended_cuda() -> Iterator[Counter[str]]:
    """Here `device="cuda"` gives fake tensors. Yields how often the host waited for them, by "file:function".

    The function is the innermost of the library, or else of what is not torch. A host that asks hears False of `any`, True of
    other truths, zeros of numbers, and that nothing is nonzero. Gradients are zeros, of every parameter that a loss depends on:
    torch's engine wants a thread of the device. Series are not packed, which needs their lengths.
    """
    asked = Counter[str]()
    with (
        mock.patch.object(Tensor, "backward", _backward),
        mock.patch("torch.autograd.grad", lambda output, x, **_: (torch.zeros_like(x),)),
        mock.patch(f"{RECURRENT}.pack_padded_sequence", lambda series, lengths, enforce_sorted: series),
        mock.patch(f"{RECURRENT}.pad_packed_sequence", lambda series, total_length: (series, None)),
        FakeTensorMode(allow_non_fake_inputs=True),  # a number without axes goes with either side
        _Sides(asked),
    ):
        yield asked


def stand_in(module: nn.Module) -> nn.Module:
    """`module` with a linear map of the same shapes for each LSTM, whose kernels cannot be asked for shapes alone."""
    for part in list(module.modules()):
        if isinstance(part, LSTM):
            part.lstm = StandIn(part.lstm)
    return module


class StandIn(nn.Module):
    """In place of an LSTM."""

    def __init__(self, lstm: nn.LSTM):
        super().__init__()
        self.bidirectional = lstm.bidirectional
        self.map = nn.Linear(lstm.input_size, lstm.hidden_size * (1 + lstm.bidirectional))

    def forward(self, series: Tensor) -> tuple[Tensor, None]:
        """Outputs, and no state."""
        return self.map(series), None


class _Sides(TorchDispatchMode):
    def __init__(self, asked: Counter[str]):
        super().__init__()
        self.asked = asked

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        device = kwargs.get("device")
        if FakeTensor not in types and (device is None or device.type != "cuda"):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        generator = kwargs.get("generator")
        assert generator is None or generator.device == device, f"a generator of {generator.device} draws on {device}"
        if func in (NUMBER, PLACES) or (func is COPY and device is not None and device.type == "cpu"):
            self.asked[_caller()] += 1
            with unset_fake_temporarily():
                return _answer(func, args[0], kwargs.get("dtype") or args[0].dtype)
        if func is aten.copy_.default and not isinstance(args[0], FakeTensor):
            self.asked[_caller()] += 1
            return args[0]
        assert func is not aten.index.Tensor or isinstance(args[0], FakeTensor), "a GPU's tensor indexes a CPU's"
        out = func(*args, **kwargs)
        if func in (aten.any.default, aten.any.dim):
            out.truth = False
        return out


def _answer(func: Any, x: Tensor, dtype: torch.dtype) -> Any:
    if func is NUMBER:
        return getattr(x, "truth", True) if dtype == torch.bool else torch.zeros((), dtype=dtype).item()
    return torch.zeros(x.shape, dtype=dtype) if func is COPY else torch.zeros(0, x.ndim, dtype=torch.long)


def _caller() -> str:
    frame, outer = sys._getframe(2), None
    while frame is not None and not frame.f_code.co_filename.startswith(HOME):
        if outer is None and "/torch/" not in frame.f_code.co_filename and frame.f_code.co_filename != __file__:
            outer = frame
        frame = frame.f_back  # type: ignore[assignment]
    code = (frame or outer).f_code  # type: ignore[union-attr]
    return f"{Path(code.co_filename).name}:{code.co_name}"


def _backward(loss: Tensor, *args: Any, **kwargs: Any) -> None:
    waiting, seen = [loss.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [step for step, _ in node.next_functions]
            if hasattr(node, "variable"):
                node.variable.grad = torch.zeros_like(node.variable)
