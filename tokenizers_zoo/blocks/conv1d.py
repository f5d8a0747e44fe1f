"""1D convolutions that pad their own input, and pad a batch of unequal clips as if each were alone.

All take and return (x, lengths): x (B, C, T); lengths None (all T) or int64 (B,) on x's device. What lies past an item's
length is never read, so an item's result does not depend on what it is batched with.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

Norm = Literal["weight_norm", "time_group_norm", "none"]
PadMode = Literal["reflect", "constant"]


def zero_past(x: Tensor, lengths: Tensor | None) -> Tensor:
    """`x` (B, C, T) with zeros past each item's length."""
    if lengths is None:
        return x
    return x * (torch.arange(x.shape[-1], device=x.device) < lengths[:, None])[:, None]


def pad(x: Tensor, lengths: Tensor | None, left: int, right: int, stride: int, mode: PadMode) -> Tensor:
    """Pads `left` and `right` samples around each item, and on the right what completes its last `stride`.

    The width follows from that of `x`, not from `lengths`, for which a GPU would have to be waited for. Reflection needs more
    samples than it mirrors: a shorter item is first continued by zeros until it has one more, and the surplus at the end is cut
    again (facebookresearch/encodec, modules/conv.py).
    """
    if lengths is None:
        return _pad_alike(x, left, right + -x.shape[-1] % stride, mode)
    total, end = x.shape[-1], lengths[:, None]
    after = right + -end % stride
    source = torch.arange(-left, total + right + -total % stride, device=x.device).expand(len(x), -1)  # of each padded sample
    if mode == "reflect":
        mirror = torch.maximum(end, after.clamp(min=left) + 1) - 1
        source = source.abs()
        source = torch.where(source > mirror, 2 * mirror - source, source)
    inside = (source >= 0) & (source < end)
    index = source.clamp(0, total - 1)[:, None].expand(-1, x.shape[1], -1)
    return x.gather(-1, index) * inside[:, None]


def _pad_alike(x: Tensor, left: int, right: int, mode: PadMode) -> Tensor:
    missing = max(left, right) + 1 - x.shape[-1]
    if mode == "constant" or missing <= 0:
        return F.pad(x, (left, right), mode=mode)
    return F.pad(F.pad(x, (0, missing)), (left, right), mode=mode)[..., :-missing]


class Conv1d(nn.Module):
    """Convolution with ceil(T / stride) outputs; the last window is completed on the right by padding.

    causal: all of kernel - stride goes to the left; otherwise the left side gets the larger half. norm: "weight_norm",
    "time_group_norm" (one group over channels and time, after the convolution) or "none". complete=False pads both sides by
    that half and drops what does not fill a window: floor(T / stride) outputs, floor((T + 1) / stride) for an odd stride.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        norm: Norm = "weight_norm",
        pad_mode: PadMode = "reflect",
        causal: bool = False,
        complete: bool = True,
    ):
        super().__init__()
        self.conv = normed(nn.Conv1d(in_channels, out_channels, kernel, stride, dilation=dilation), norm)
        self.norm = TimeGroupNorm(out_channels) if norm == "time_group_norm" else None
        self.stride, self.pad_mode, self.span = stride, pad_mode, (kernel - 1) * dilation + 1
        if causal and not complete:
            raise ValueError("a causal convolution pads on the left alone: complete=False cannot go with it")
        self.complete = complete
        total = self.span - stride
        self.right = 0 if causal else total // 2
        self.left = total - self.right
        if not complete:
            self.right = self.left

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, C_in, T) -> (B, C_out, ceil(T / stride))."""
        if self.complete:
            after = None if lengths is None else -(-lengths // self.stride)
        else:
            after = None if lengths is None else (lengths + self.left + self.right - self.span) // self.stride + 1
        if self.span > 1 or self.stride > 1:
            x = pad(x, lengths, self.left, self.right, self.stride if self.complete else 1, self.pad_mode)
        x = self.conv(x)
        return (self.norm(x, after) if self.norm else x), after


class ConvTranspose1d(nn.Module):
    """Transposed convolution with kernel 2 * stride and T * stride outputs; the surplus is cut as `Conv1d` pads.

    complete=False gives one sample less where the stride is odd.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        stride: int,
        norm: Norm = "weight_norm",
        causal: bool = False,
        complete: bool = True,
    ):
        super().__init__()
        self.conv = normed(nn.ConvTranspose1d(in_channels, out_channels, 2 * stride, stride), norm)
        self.norm = TimeGroupNorm(out_channels) if norm == "time_group_norm" else None
        self.stride = stride
        self.left = 0 if causal else stride - stride // 2
        self.missing = 0 if complete else stride % 2

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, C_in, T) -> (B, C_out, T * stride)."""
        after = None if lengths is None else lengths * self.stride - self.missing
        frames = x.shape[-1]
        x = self.conv(zero_past(x, lengths))
        if self.norm:  # EnCodec normalises before it cuts
            x = self.norm(x, None if after is None else after + self.stride)
        return x[..., self.left : self.left + frames * self.stride - self.missing], after


class LSTM(nn.Module):
    """LSTM over time with a skip connection; bidirectional doubles the channels and the skip repeats the input."""

    def __init__(self, channels: int, layers: int, bidirectional: bool = False):
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers, bidirectional=bidirectional)
        self.repeats = 2 if bidirectional else 1

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, C, T) -> (B, C or 2C, T)."""
        series = x.permute(2, 0, 1)
        if lengths is None or not self.lstm.bidirectional:  # what comes after an item changes nothing in it
            y, _ = self.lstm(series)
        else:
            packed = nn.utils.rnn.pack_padded_sequence(series, lengths.cpu(), enforce_sorted=False)
            y, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], total_length=len(series))
        return y.permute(1, 2, 0) + x.repeat(1, self.repeats, 1), lengths


class TimeGroupNorm(nn.GroupNorm):
    """GroupNorm with one group over (C, T), statistics over each item's own length (EnCodec's 48 kHz model)."""

    def __init__(self, channels: int):
        super().__init__(1, channels)

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        if lengths is None:
            return super().forward(x)
        items = [super(TimeGroupNorm, self).forward(item[None, :, :n]) for item, n in zip(x, lengths.tolist(), strict=True)]
        return torch.cat([F.pad(item, (0, x.shape[-1] - item.shape[-1])) for item in items])


def normed(conv: nn.Module, norm: Norm) -> nn.Module:
    """`conv` under weight norm where `norm` asks for it."""
    return weight_norm(conv) if norm == "weight_norm" else conv
