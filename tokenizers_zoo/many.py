"""Many files through a tokenizer: read ahead by threads, run in batches of like length, and one bad file spoils nothing.

What is read waits in a window and is sorted there, so that little is padded; memory depends on the window, never on the number of
files. On a CPU several batches run at a time, each with its share of the threads: our matrices are too small to keep more than
one busy. A GPU gets one large batch at a time.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, chain, islice
from math import inf
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from .errors import InputError
from .manifest import Row
from .media import Audio, Images, as_audio, as_images
from .tokenizer import AudioTokenizer, ImageTokenizer, Size, Tokenizer
from .tokens import Tokens, TokenSpec

Source = TypeVar("Source")
Result = TypeVar("Result")

SECONDS = {"cpu": 16.0, "else": 240.0}  # of a batch; what this much needs fits a CPU's caches
WINDOW = {"cpu": 16, "else": 4}  # batches that are read before they are sorted; a GPU must not wait for it
IMAGE = 2.0  # seconds of speech that cost about what an image does
LEAST = 0.1  # seconds that an item counts at least
STREAMS = 4  # batches that run at a time on a CPU, at most


def encode_many(
    tokenizer: Tokenizer,
    sources: Iterable[Any],
    batch_seconds: float | None = None,
    batch_size: int | None = None,
    workers: int = 4,
    size: Size = None,
) -> Iterator[tuple[Any, Tokens | Exception]]:
    """(key, tokens) of every source, or (key, error) where one cannot be read or encoded; a batch's as soon as it is done.

    sources: pairs (key, source), always as a tuple, or sources alone, whose key is their path or else their place. A source is
    what `encode` takes, a manifest's Row, or a mapping of `media` and what `tokenizer.takes` names (a Row brings that along).
    batch_seconds: most audio of a batch, padding included (default 16 on a CPU, 240 elsewhere); an image counts as 2 s, and what
    is longer runs alone. batch_size: most items of a batch, in place of the default of `batch_seconds`. workers: threads that
    read. size: of images, as `encode` has it; those that come to one size run together.

    Codes do not depend on the batch that an item got into. The order is not that of the sources: keys tell. Raises InputError
    for arguments out of range, TokenError for a tokenizer without a quantizer.
    """
    tokenizer.discrete()
    _refuse_one(sources)
    limit = _Limit.of(tokenizer.device.type, batch_seconds, batch_size, workers)
    if isinstance(tokenizer, ImageTokenizer):
        tokenizer.target(size)  # or an error, before anything is read
    elif size is not None:
        raise InputError(f"{tokenizer.name} is for audio, which has no size; leave size={size!r} out")

    def read(source: Any) -> "_Item":
        if isinstance(source, Row):
            source = {"media": source.path, **{name: getattr(source, name) for name in tokenizer.takes}}
        parts = source if isinstance(source, Mapping) and "media" in source else {"media": source}
        named = {name: parts[name] for name in tokenizer.takes if name in parts}
        if isinstance(tokenizer, AudioTokenizer):
            audio = as_audio(parts["media"], tokenizer.sample_rate)
            seconds = audio.waveform.shape[-1] / audio.sample_rate
            return _Item(audio, len(audio), seconds, (), tokenizer.accepted(named, len(audio)))
        assert isinstance(tokenizer, ImageTokenizer)
        images = as_images(parts["media"], tokenizer.target(size))
        return _Item(images, len(images), IMAGE, images.pixels.shape[-2:], tokenizer.accepted(named, len(images)))

    def run(items: Sequence["_Item"]) -> list[Tokens]:
        media = [item.media for item in items]
        whole = media[0] if len(items) == 1 else _stack(media)
        given = {name: [value for item in items for value in item.given[name]] for name in items[0].given}
        extent = {} if size is None else {"size": items[0].kind}
        tokens = tokenizer.encode(whole, **given, **extent).to("cpu")
        return [tokens[span] for span in _spans(items)]

    return _many(sources, read, run, limit, workers, tokenizer.device)


def decode_many(
    load: Callable[[TokenSpec], Tokenizer],
    sources: Iterable[Any],
    batch_seconds: float | None = None,
    batch_size: int | None = None,
    workers: int = 4,
    device: torch.device | str = "cpu",
    **options: Any,
) -> Iterator[tuple[Any, Audio | Images | Exception]]:
    """(key, media) of every source, or (key, error), in the same way. A source is a `.tok` file, its bytes, or Tokens.

    load: gives the tokenizer of a spec, on `device`; asked for every batch, by several threads. options: of `decode`, for all.
    """
    device = torch.device(device)
    _refuse_one(sources)
    limit = _Limit.of(device.type, batch_seconds, batch_size, workers)

    def read(source: Any) -> "_Item":
        tokens = source if isinstance(source, Tokens) else Tokens.from_bytes(source) if isinstance(source, bytes) else None
        tokens = Tokens.load(source) if tokens is None else tokens
        seconds = tokens.codes.shape[-1] / tokens.spec.frame_rate if tokens.spec.frame_rate else IMAGE
        size = tuple(tuple(tokens.conditions[name][:1].tolist()) for name in ("height", "width") if name in tokens.conditions)
        return _Item(tokens, len(tokens), seconds, (tokens.spec, size, *sorted(tokens.conditions)), {})

    def run(items: Sequence["_Item"]) -> Sequence[Audio | Images]:
        tokens = Tokens.cat([item.media for item in items])
        media = load(tokens.spec).decode(tokens, **options)
        if isinstance(media, Images):
            return [Images(media.pixels[span]) for span in _spans(items)]
        return [Audio.stack([media[i] for i in range(span.start, span.stop)]) for span in _spans(items)]

    return _many(sources, read, run, limit, workers, device)


def read_ahead(
    read: Callable[[Source], Result],
    sources: Iterable[Source],
    workers: int = 4,
    ahead: int | None = None,
    start: Callable[[], object] | None = None,
) -> Iterator[tuple[Source, Result | Exception]]:
    """(source, what `read` makes of it) in the order of `sources`, or (source, the error that it raises).

    `workers` threads, each of which first calls `start`, are at most `ahead` sources in front (default: one each).
    """
    waiting: deque[tuple[Source, Future[Result]]] = deque()

    def oldest() -> tuple[Source, Result | Exception]:
        source, future = waiting.popleft()
        try:
            return source, future.result()
        except Exception as error:
            return source, error

    with ThreadPoolExecutor(workers, initializer=start) as pool:
        try:
            for source in sources:
                waiting.append((source, pool.submit(read, source)))
                while waiting and (len(waiting) >= (ahead or workers) or waiting[0][1].done()):
                    yield oldest()
            while waiting:
                yield oldest()
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Item:
    """What was read of a source. count: clips or images in it, of `seconds` each. kind: a batch has one. given: a value each."""

    media: Any
    count: int
    seconds: float
    kind: Any
    given: Mapping[str, Any]


@dataclass(frozen=True)
class _Limit:
    """Most seconds (padding included) and most items of a batch, and the batches of a window with the seconds that fill it."""

    seconds: float
    size: float
    batches: int
    window: float

    def full(self, count: int, seconds: float) -> bool:
        """Whether a window of `count` items is: it has many batches, or at least one and enough seconds."""
        return count >= self.batches * self.size or (seconds >= self.window and (self.size == inf or count >= self.size))

    @classmethod
    def of(cls, device: str, seconds: float | None, size: int | None, workers: int) -> "_Limit":
        for name, value in (("batch_seconds", seconds), ("batch_size", size), ("workers", workers)):
            if value is not None and not (isinstance(value, Real) and value > 0):
                raise InputError(f"{name} must be above 0, got {value!r}")
        kind = device if device in SECONDS else "else"
        usual = seconds or SECONDS[kind]
        return cls(seconds or (usual if size is None else inf), size or inf, WINDOW[kind], WINDOW[kind] * usual)


_Read = tuple[tuple[Any, Any], "_Item | Exception"]  # ((key, source), what was read)


def _many(
    sources: Iterable[Any],
    read: Callable[[Any], _Item],
    run: Callable[[Sequence[_Item]], Sequence[Any]],
    limit: _Limit,
    workers: int,
    device: torch.device,
) -> Iterator[tuple[Any, Any]]:
    """(key, result or error) of all sources through `read`, into batches, and through `run`."""
    precision = torch.get_autocast_dtype(device.type), torch.is_autocast_enabled(device.type)  # threads do not inherit it

    def attempt(batch: list[_Read]) -> list[tuple[Any, Any]]:
        keys, items = [key for (key, _), _ in batch], [item for _, item in batch]
        if isinstance(items[0], Exception):
            return [(keys[0], items[0])]
        try:
            with torch.autocast(device.type, *precision):
                return list(zip(keys, run(items), strict=True))  # type: ignore[arg-type]  # no errors are among them
        except Exception as error:
            return [(keys[0], error)] if len(batch) == 1 else [attempt([one])[0] for one in batch]

    def share() -> None:
        torch.set_num_threads(threads // streams)

    keyed = (source if isinstance(source, tuple) else (_key(source, place), source) for place, source in enumerate(sources))
    batches = _batches(read_ahead(lambda pair: read(pair[1]), keyed, workers), limit)
    threads = torch.get_num_threads()
    first = list(islice(batches, min(STREAMS, threads) if device.type == "cpu" else 1))
    streams = max(1, len(first))
    try:
        for _, results in read_ahead(attempt, chain(first, batches), streams, streams + 2, share):
            assert not isinstance(results, Exception)  # `attempt` returns them
            yield from results
    finally:
        torch.set_num_threads(threads)  # that of threads to come; the consumer's own never changed


def _refuse_one(sources: Any) -> None:
    """Raises InputError for a single source, which would be taken apart or is no iterable."""
    if isinstance(sources, str | Path | bytes | Mapping | Row | Tensor | Tokens) or not isinstance(sources, Iterable):
        raise InputError(f"sources must be several, got {sources!r:.80}; give a list, [source], or what iterates over them")


def _key(source: Any, place: int) -> Any:
    source = source.path if isinstance(source, Row) else source
    return source if isinstance(source, str | Path) else place


def _batches(read: Iterable[_Read], limit: _Limit) -> Iterator[list[_Read]]:
    """Batches of one kind and like length; what could not be read is a batch of its own."""
    window, seconds = [], 0.0
    for pair in read:
        if isinstance(pair[1], Exception):
            yield [pair]
            continue
        window.append(pair)
        seconds += pair[1].count * max(LEAST, pair[1].seconds)
        if limit.full(len(window), seconds):
            yield from _cut(window, limit)
            window, seconds = [], 0.0
    yield from _cut(window, limit)


def _cut(window: list[Any], limit: _Limit) -> Iterator[list[Any]]:
    kinds: dict[Any, list[Any]] = {}
    for pair in window:
        kinds.setdefault(pair[1].kind, []).append(pair)
    for pairs in kinds.values():
        batch: list[Any] = []
        count = 0
        for pair in sorted(pairs, key=lambda pair: pair[1].seconds):
            more = count + pair[1].count
            if batch and (more > limit.size or more * max(LEAST, pair[1].seconds) > limit.seconds):
                yield batch
                batch, more = [], pair[1].count
            batch.append(pair)
            count = more
        yield batch


def _stack(media: Sequence[Any]) -> Audio | Images:
    if isinstance(media[0], Audio):
        return Audio.stack(media)
    return Images(torch.cat([images.pixels for images in media]))


def _spans(items: Sequence[_Item]) -> list[slice]:
    """Where each source's items are in the batch."""
    starts = accumulate((item.count for item in items), initial=0)
    return [slice(start, start + item.count) for item, start in zip(items, starts, strict=False)]
