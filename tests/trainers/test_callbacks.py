"""Collapse alarm, throughput, logged reconstructions."""

import warnings
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from runs import audio_data, audio_module, fit, image_data, image_module
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tokenizers_zoo.pictures import grid, spectrogram
from tokenizers_zoo.quantizers import Quantized
from tokenizers_zoo.tokenizer import Reconstruction
from tokenizers_zoo.trainers.callbacks import Bar, CodebookMonitor, Reconstructions, Throughput
from tokenizers_zoo.trainers.cli import HARMLESS
from tokenizers_zoo.trainers.schedule import WarmupCosine

pytestmark = pytest.mark.filterwarnings(
    *(f"ignore:{message}" for message in HARMLESS), "ignore:.*LeafSpec", "ignore:.*is not empty"
)


class Stub:
    """A trainer and a module at once, for callbacks that only log."""

    global_step = 2000

    def __init__(self) -> None:
        self.logs: dict[str, float] = {}

    def log_dict(self, values: dict[str, float]) -> None:
        self.logs |= values


def batch_of(codes: torch.Tensor, sizes: tuple[int, ...]) -> dict[str, Reconstruction]:
    nothing = torch.zeros(1)
    return {"result": Reconstruction(nothing, nothing, Quantized(nothing, codes, sizes, {}, nothing))}


def test_a_collapsed_codebook_raises_the_alarm() -> None:
    monitor, stub = CodebookMonitor(every=2, alarm=0.1), Stub()
    healthy, collapsed = torch.arange(64).reshape(1, 1, 64), torch.zeros(1, 1, 64, dtype=torch.long)
    outputs = batch_of(torch.cat([healthy, collapsed], dim=1), (64, 64))
    monitor.on_train_batch_end(stub, stub, outputs, {}, 0)
    with pytest.warns(UserWarning, match="codebook collapse at step 2000: perplexity of codebook 1 is below 10%"):
        monitor.on_train_batch_end(stub, stub, outputs, {}, 1)
    assert stub.logs["codebook/perplexity_0"] == pytest.approx(1.0)
    assert stub.logs["codebook/perplexity_1"] == pytest.approx(1 / 64)
    assert stub.logs["codebook/usage_1"] == pytest.approx(1 / 64)
    with warnings.catch_warnings(action="error"):
        monitor.patience = 3000
        for index in range(2):
            monitor.on_train_batch_end(stub, stub, outputs, {}, index)


@pytest.mark.parametrize("size", [2, 16, 49])
def test_a_small_codebook_raises_the_alarm(size: int) -> None:
    """One entry alone is half of two, and more than 2 % of 49."""
    monitor, stub = CodebookMonitor(every=1), Stub()
    used = torch.arange(size).repeat(1, 1, 4)
    with pytest.warns(UserWarning, match="perplexity of codebook 0 is below 2%"):
        monitor.on_train_batch_end(stub, stub, batch_of(torch.cat([0 * used, used], dim=1), (size, size)), {}, 0)
    monitor.on_train_batch_end(stub, stub, batch_of(used[..., :1], (size,)), {}, 1)  # of one code nothing can be said


def test_of_many_codebooks_the_least_and_the_mean_are_logged() -> None:
    bits = torch.tensor([0, 1]).repeat(64, 4)[None]
    bits[:, 5] = 0
    monitor, stub = CodebookMonitor(every=1, patience=5000), Stub()
    monitor.on_train_batch_end(stub, stub, batch_of(bits, (2,) * 64), {}, 0)
    assert stub.logs == {
        "codebook/perplexity_least": pytest.approx(0.5),
        "codebook/perplexity_mean": pytest.approx(1 - 0.5 / 64),
        "codebook/usage_least": pytest.approx(0.5),
        "codebook/usage_mean": pytest.approx(1 - 0.5 / 64),
    }


def test_runs_log_pictures_sound_speed_and_codebooks(tmp_path: Path) -> None:
    logger = TensorBoardLogger(tmp_path)
    callbacks = [CodebookMonitor(every=2), Throughput(every=2), Reconstructions(items=1)]
    fit(
        audio_module(),
        audio_data(),
        4,
        tmp_path / "a",
        callbacks=callbacks,
        logger=logger,
        limit_val_batches=1,
        val_check_interval=2,
        log_every_n_steps=1,
    )
    events = EventAccumulator(logger.log_dir).Reload()
    tags = events.Tags()
    assert {"speed/steps", "codebook/perplexity_2", "valid/total", "train/adversarial"} <= set(tags["scalars"])
    assert tags["images"] == ["spectrograms"]
    assert set(tags["audio"]) == {"clip_0/original", "clip_0/decoded"}
    logger = TensorBoardLogger(tmp_path / "photos")
    fit(
        image_module(),
        image_data(),
        1,
        tmp_path / "b",
        callbacks=[Reconstructions()],
        logger=logger,
        limit_val_batches=1,
        val_check_interval=1,
    )
    assert EventAccumulator(logger.log_dir).Reload().Tags()["images"] == ["reconstructions"]


def test_speed_is_of_the_steps_and_samples_since_the_last_report(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [10.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    speed, stub, batch = Throughput(every=2), Stub(), {"media": torch.zeros(3, 1, 8)}
    stub.accumulate = 4
    for seconds, wanted in ((1.0, None), (3.0, (6 / 4, 2 / 4 / 4)), (0.5, (6 / 4, 2 / 4 / 4)), (1.5, (6 / 2, 2 / 4 / 2))):
        speed.on_train_batch_start(stub, stub, batch, 0)
        now[0] += seconds
        speed.on_train_batch_end(stub, stub, None, batch, 0)
        if wanted:
            assert (stub.logs["speed/samples"], stub.logs["speed/steps"]) == pytest.approx(wanted)


def test_the_first_batch_of_validation_is_shown_original_first() -> None:
    writer = Mock()
    trainer = Mock(logger=Mock(experiment=writer), global_step=7)
    module = Mock(tokenizer=Mock(sample_rate=8000))
    shown = Reconstructions(items=2)

    def show(media: torch.Tensor, output: torch.Tensor | None, index: int) -> None:
        outputs = {"result": Reconstruction(output, torch.zeros(1))}
        shown.on_validation_batch_end(trainer, module, outputs, {"media": media}, index)

    photos, copies = torch.rand(3, 3, 4, 4), torch.rand(3, 3, 4, 4) * 3 - 1
    show(photos, copies, 1)
    show(photos, None, 0)
    show(photos, copies[:, :1], 0)
    assert not writer.method_calls
    show(photos, copies, 0)
    (call,) = writer.add_image.call_args_list
    assert call.args[0] == "reconstructions"
    assert torch.equal(call.args[1], grid([photos[:2], copies[:2].clamp(0, 1)]))
    assert call.args[2] == 7
    clips, copies = torch.rand(3, 1, 2000), torch.rand(3, 1, 2000) * 3
    show(clips, copies, 0)
    assert torch.equal(writer.add_image.call_args.args[1], grid([spectrogram(clips[:2]), spectrogram(copies[:2])]))
    heard = [call.args for call in writer.add_audio.call_args_list]
    assert [(name, step, rate) for name, _, step, rate in heard] == [
        (f"clip_{n}/{what}", 7, 8000) for n in (0, 1) for what in ("original", "decoded")
    ]
    for (_, wave, *_), wanted in zip(heard, (clips[0], copies[0].clamp(-1, 1), clips[1], copies[1].clamp(-1, 1)), strict=True):
        assert torch.equal(wave, wanted)


def test_the_bar_shows_the_step_and_both_losses() -> None:
    stub = Mock(global_step=7, callback_metrics={"train/total": torch.tensor(0.25), "train/a": torch.tensor(9.0)})
    stub.progress_bar_metrics = {"mine": 1.0}
    assert Bar().get_metrics(stub, stub) == {"step": 7, "train/total": "0.25", "mine": 1.0}
    stub.callback_metrics["valid/total"] = torch.tensor(0.123456)
    assert Bar().get_metrics(stub, stub) == {"step": 7, "train/total": "0.25", "valid/total": "0.1235", "mine": 1.0}


def test_pictures() -> None:
    assert grid([torch.zeros(3, 1, 4, 5), torch.ones(3, 1, 4, 5)]).shape == (1, 8, 15)
    tone = torch.sin(torch.arange(16000) * 2 * torch.pi * 1000 / 16000)[None, None]
    picture = spectrogram(tone)[0, 0]
    assert picture.shape[0] == 257
    assert int(picture.mean(1).argmax()) == 256 - round(1000 / 16000 * 512)
    assert float(picture.max()) == 1.0


def test_warmup_and_cosine() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    schedule, rates = WarmupCosine(optimizer, 10, warmup=2, final=0.1), []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[6] == pytest.approx(0.55)
    assert rates[10:] == pytest.approx([0.1, 0.1])
    with pytest.raises(ValueError, match="shorter than total"):
        WarmupCosine(optimizer, 5, warmup=5)
