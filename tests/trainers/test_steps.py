"""A few steps written out in plain torch, against the module in Lightning's trainer."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import ModelParallelStrategy
from runs import fit
from torch import Tensor, nn
from toy_steps import (
    ACCUMULATE,
    CLIP,
    COMMITMENT,
    DECAY,
    LECAM,
    MATCHING,
    SIDES,
    START,
    STEPS,
    WEIGHT,
    Photos,
    module,
)
from toys import Painted, Plain, Pooled

import tokenizers_zoo as tz
from tokenizers_zoo import assembly
from tokenizers_zoo.tokenizer import Reconstruction
from tokenizers_zoo.trainers.module import TokenizerModule
from tokenizers_zoo.trainers.objective import Objective, Term
from tokenizers_zoo.trainers.schedule import WarmupCosine
from tokenizers_zoo.trainers.sharding import FSDP2Strategy

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*smaller than the logging",
    "ignore:Using ModelCheckpoint",
    "ignore:.*eval mode",
    "ignore:.*LeafSpec",
    "ignore:.*is not empty",
    "ignore:.*no gradient clipping",
)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Toys may be named, for once."""
    monkeypatch.setattr(assembly, "_registered", {})
    for cls in (Plain, Pooled, Painted):
        tz.register(cls)


def rate(step: int) -> float:
    """Of the schedule: after `step` steps of its side, as a factor."""
    if step < 2:
        return (step + 1) / 2
    return 0.1 + 0.9 * (1 + math.cos(math.pi * min(1, (step - 2) / 4))) / 2


class ByHand:
    """What the docstrings promise, in the order of a training script of two sides."""

    def __init__(self, start: TokenizerModule, clip: float | None):
        self.clip = clip
        self.tokenizer, self.judge = copy.deepcopy(start.tokenizer).train(), copy.deepcopy(start.adversary.discriminator)
        self.average = copy.deepcopy(self.tokenizer)
        self.running, self.logs = torch.zeros(2), []
        self.momenta: dict[Tensor, Tensor] = {}
        self.steps = {"generator": 0, "discriminator": 0}

    def run(self, batches: list[Tensor]) -> "ByHand":
        """Steps over all batches."""
        for number in range(0, len(batches) - ACCUMULATE + 1, ACCUMULATE):
            self.step(batches[number : number + ACCUMULATE])
        return self

    def step(self, batches: list[Tensor]) -> None:
        """One step of both sides, each by the same weights of the other."""
        generator = [p for p in self.tokenizer.parameters() if p.requires_grad]
        judge = list(self.judge.parameters())
        sums = {p: torch.zeros_like(p) for p in [*generator, *judge]}
        adversarial = self.steps["generator"] >= START
        for number, media in enumerate(batches):
            self.tokenizer.quantizer.step_ends = number == len(batches) - 1
            result = self.tokenizer(media)
            total = 2 * (result.output - media).square().mean() + COMMITMENT * result.quantized.losses["commitment"]
            if adversarial:
                self._sum(sums, self._judged(result.output.detach(), media), judge)
                real, fake = self.judge(media)[0], self.judge(result.output)[0]
                total = total - WEIGHT * fake.logits.mean()
                total = total + MATCHING * (fake.features[0] - real.features[0].detach()).abs().mean()
            self._sum(sums, total, generator)
            self.logs.append(float(total.detach()))
        for side, parameters in {"generator": generator, "discriminator": judge if adversarial else []}.items():
            self._update(side, parameters, sums)
        with torch.no_grad():
            first = self.steps["generator"] == 1
            learning = {name for name, _ in self.tokenizer.named_parameters()}  # codebooks are averages already
            for (name, now), mean in zip(self.tokenizer.state_dict().items(), self.average.state_dict().values(), strict=True):
                mean.copy_(DECAY * mean + (1 - DECAY) * now if name in learning and not first else now)

    def _judged(self, output: Tensor, media: Tensor) -> Tensor:
        real, fake = self.judge(media)[0].logits, self.judge(output)[0].logits
        loss = ((1 - real).relu().mean() + (1 + fake).relu().mean()) / 2
        loss = loss + LECAM * ((real.mean() - self.running[1]).relu() ** 2 + (self.running[0] - fake.mean()).relu() ** 2)
        self.running = 0.999 * self.running + 0.001 * torch.stack([real.mean(), fake.mean()]).detach()
        return loss

    @staticmethod
    def _sum(sums: dict[Tensor, Tensor], loss: Tensor, parameters: list[Tensor]) -> None:
        found = torch.autograd.grad(loss / ACCUMULATE, parameters, allow_unused=True)
        for p, gradient in zip(parameters, found, strict=True):
            sums[p] += 0 if gradient is None else gradient

    @torch.no_grad()
    def _update(self, side: str, parameters: list[Tensor], sums: dict[Tensor, Tensor]) -> None:
        if not parameters:
            return
        norm = torch.stack([sums[p].square().sum() for p in parameters]).sum().sqrt()
        for p in parameters:
            gradient = sums[p] * min(1.0, (self.clip or math.inf) / (float(norm) + 1e-6))
            gradient = gradient + 0.1 * p * (p.ndim > 1)
            self.momenta[p] = SIDES[side][1] * self.momenta[p] + gradient if p in self.momenta else gradient
            p -= SIDES[side][0] * rate(self.steps[side]) * self.momenta[p]
        self.steps[side] += 1


def check(found: nn.Module, wanted: nn.Module) -> None:
    state = wanted.state_dict()
    for name, value in found.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=1e-5, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("clip", [CLIP, None])
def test_steps_equal_those_written_out(clip: float | None, tmp_path: Path) -> None:
    """Clipped steps do not see the scale of a gradient, the others no clipping."""
    found, data = module(clip=clip), Photos()
    batches = [data.items[i : i + 2] for i in (0, 2, 4)] * 4
    wanted = ByHand(found, clip).run(batches[: STEPS * ACCUMULATE])
    start = copy.deepcopy(found.tokenizer), copy.deepcopy(found.adversary)
    losses = fit(found, data, STEPS, tmp_path)
    assert len(losses) == STEPS * ACCUMULATE
    torch.testing.assert_close(torch.tensor([x["total"] for x in losses]), torch.tensor(wanted.logs), rtol=1e-5, atol=1e-6)
    assert (found.tokenizer.quantizer.learner.cluster_size > 1).all()
    check(found.tokenizer, wanted.tokenizer)
    check(found.adversary.discriminator, wanted.judge)
    check(found.averaged, wanted.average)
    torch.testing.assert_close(found.adversary.lecam.running, wanted.running)
    for before, after in zip(start, (found.tokenizer, found.adversary), strict=True):  # the test could see it if it stood still
        moved = [float((a - b).detach().abs().max()) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
        assert min(moved) > 1e-3
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert [x["param_groups"][0]["lr"] for x in saved["optimizer_states"]] == pytest.approx([0.3 * rate(5), 0.1 * rate(4)])


@pytest.mark.parametrize("stop", [2, 3])
def test_a_resume_counts_batches_on(stop: int, tmp_path: Path) -> None:
    """Breaks after 4 and 6 batches of epochs of 3."""
    data = Photos()
    whole = module()
    fit(whole, data, STEPS, tmp_path / "whole")
    fit(module(), data, stop, tmp_path / "broken")
    resumed = module()
    resumed.adversary.lecam.running.fill_(7)
    saved = torch.load(tmp_path / "broken/last.ckpt", weights_only=True)
    assert saved["batches"] == stop * ACCUMULATE
    ended = []
    step = resumed._step
    resumed._step = lambda: (ended.append(resumed.batches), step())[1]
    resumed.on_load_checkpoint(copy.deepcopy(saved))
    assert resumed.batches == stop * ACCUMULATE
    fit(resumed, data, STEPS, tmp_path / "broken", resume=tmp_path / "broken/last.ckpt")
    assert ended == [2 * n for n in range(stop + 1, STEPS + 1)]
    check(resumed, whole)


def test_a_checkpoint_amid_a_step_begins_the_step_anew() -> None:
    resumed = module()
    checkpoint = {"batches": 7, "random": torch.get_rng_state()[None]}
    resumed.on_load_checkpoint(checkpoint)
    assert resumed.batches == 6


def test_codebooks_learn_where_a_step_ends(tmp_path: Path) -> None:
    found, ends = module(), []
    found.tokenizer.quantizer.register_forward_pre_hook(lambda part, _: ends.append(part.step_ends))
    fit(found, Photos(), 4, tmp_path)
    assert ends == [False, True] * 4


def test_validation_is_of_the_averaged_weights(tmp_path: Path) -> None:
    found, data = module(), Photos()
    fit(found, data, 3, tmp_path)
    logged = {}
    found.log_dict = lambda values, **_: logged.update(values)
    found.eval()
    batch = {"media": data.items}
    found.validation_step(batch, 0)
    terms = found.objective(found.ema.module(data.items), batch)
    raw = found.objective(found.tokenizer(data.items), batch)
    assert logged.keys() == {"valid/squared", "valid/commitment", "valid/total"}
    for name, value in terms.items():
        torch.testing.assert_close(logged[f"valid/{name}"], value)
        assert abs(float((value - raw[name]).detach())) > 1e-5
    torch.testing.assert_close(logged["valid/total"], sum(terms.values()))


def test_frozen_parts_rest_on_both_sides(tmp_path: Path) -> None:
    found = module(frozen=("encoder",))
    found.adversary.discriminator.first.requires_grad_(False)
    before = copy.deepcopy(found)
    fit(found, Photos(), 3, tmp_path)
    check(found.tokenizer.encoder, before.tokenizer.encoder)
    check(found.adversary.discriminator.first, before.adversary.discriminator.first)
    assert not found.adversary.discriminator.first.weight.requires_grad
    assert not torch.equal(found.adversary.discriminator.last.weight, before.adversary.discriminator.last.weight)
    assert not torch.equal(found.tokenizer.decoder.proj.weight, before.tokenizer.decoder.proj.weight)


def test_a_discriminator_that_rests_whole_judges_still(tmp_path: Path) -> None:
    found = module()
    found.adversary.requires_grad_(False)
    before = copy.deepcopy(found.adversary.discriminator)
    losses = fit(found, Photos(), 3, tmp_path)
    check(found.adversary.discriminator, before)
    assert "adversarial" in losses[-1]


@pytest.mark.parametrize("precision", ["16-mixed", "16-true", "bf16-true", "64-true"])
def test_other_precisions_are_refused_before_the_first_step(precision: str, tmp_path: Path) -> None:
    found = module()
    before = copy.deepcopy(found.tokenizer)
    mixed = {"plugins": MixedPrecision("16-mixed", "cpu")} if precision == "16-mixed" else {"precision": precision}
    with pytest.raises(tz.InputError, match=f"{precision} is not supported.*32-true or bf16-mixed"):
        fit(found, Photos(), 1, tmp_path, **mixed)
    check(found.tokenizer, before)


def test_losses_of_half_precision_runs_are_whole(tmp_path: Path) -> None:
    losses = fit(module(), Photos(), 2, tmp_path, precision="bf16-mixed")
    assert all(math.isfinite(value) for step in losses for value in step.values())


@pytest.mark.parametrize("emulates", [True, False])
def test_a_cpu_that_is_slow_in_half_precision_is_told_of(
    emulates: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: not emulates)
    for precision in ("bf16-mixed", "32-true"):
        fit(module(), Photos(), 1, tmp_path, precision=precision)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("tokenizers_zoo")]
    assert told == ["this CPU has no bfloat16 arithmetic: --trainer.precision 32-true is several times as fast"] * emulates


class Spoiled(nn.Module):
    """Infinite from the third call on."""

    calls = 0

    def forward(self, output: Tensor, media: Tensor) -> Tensor:
        """A scalar."""
        self.calls += 1
        return (output - media).mean() / (self.calls < 3)


def test_a_loss_that_is_no_number_ends_the_run_before_it_steps(tmp_path: Path) -> None:
    found = module()
    found.objective = Objective({"spoiled": Term(Spoiled())})
    with pytest.raises(tz.InputError, match=r"the loss became -?(inf|nan) at step 1; lower the learning rate"):
        fit(found, Photos(), 3, tmp_path)
    assert all(p.isfinite().all() for p in found.parameters())


class Generators:
    """The random numbers of a GPU that is not here."""

    def __init__(self) -> None:
        self.state = torch.arange(16, dtype=torch.uint8)

    def get_rng_state(self, device: Any) -> Tensor:
        """As torch.cuda's."""
        return self.state.clone()

    def set_rng_state(self, state: Tensor, device: Any) -> None:
        """As torch.cuda's."""
        self.state = state


def test_random_numbers_of_the_device_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    here, found = Generators(), module()
    monkeypatch.setattr(torch.cuda, "get_rng_state", here.get_rng_state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", here.set_rng_state)
    monkeypatch.setattr(Tensor, "to", lambda self, *_: self)
    monkeypatch.setattr(TokenizerModule, "device", torch.device("cuda", 0))
    found.all_gather = lambda state: torch.stack([state, state + 1])  # of two processes
    checkpoint: dict[str, Any] = {"state_dict": {}}
    found.on_save_checkpoint(checkpoint)
    assert checkpoint["random_device"].shape == (2, 16)
    monkeypatch.setattr(TokenizerModule, "global_rank", 1)
    here.state = torch.zeros(16, dtype=torch.uint8)
    checkpoint.pop("state_dict")
    found.on_load_checkpoint(checkpoint)
    assert not here.state.any()  # Lightning draws some numbers before the first batch
    monkeypatch.setattr(torch, "set_rng_state", lambda state: None)  # this one is made up
    found.on_train_batch_start({}, 0)
    assert torch.equal(here.state, torch.arange(16, dtype=torch.uint8) + 1)


def test_warmup_and_cosine() -> None:
    parameter = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([parameter], 2.0)
    schedule = WarmupCosine(optimizer, 12, warmup=4, final=0.2)
    rates = []
    for _ in range(15):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    wanted = [0.5, 1.0, 1.5, 2.0] + [2 * (0.2 + 0.4 * (1 + math.cos(math.pi * n / 8))) for n in range(8)] + [0.4] * 3
    assert rates == pytest.approx(wanted)
    with pytest.raises(ValueError, match="shorter"):
        WarmupCosine(optimizer, 4, warmup=4)


def test_an_adversary_needs_something_to_judge(tmp_path: Path) -> None:
    found = module()
    forward = found.tokenizer.forward
    found.tokenizer.forward = lambda media: Reconstruction(None, *[getattr(forward(media), x) for x in ("latents", "quantized")])
    found.objective = Objective({"commitment": Term(nn.Identity(), 1.0, ("commitment",))})
    with pytest.raises(tz.InputError, match="nothing to judge"):
        fit(found, Photos(), 3, tmp_path)


def test_fsdp_loads_whole_checkpoints_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning is told to be lenient, because teachers are in no checkpoint."""
    found, path = module(), tmp_path / "last.ckpt"
    found.objective["teacher"] = nn.Linear(2, 2)
    fit(found, Photos(), 1, tmp_path)
    saved = torch.load(path, weights_only=True)
    strategy = FSDP2Strategy()
    strategy._lightning_module = found
    monkeypatch.setattr(ModelParallelStrategy, "load_checkpoint", lambda self, path, weights_only: "loaded")
    assert strategy.load_checkpoint(path) == "loaded"
    gone = saved["state_dict"].pop("tokenizer.encoder.proj.weight")
    torch.save(saved, path)
    with pytest.raises(tz.WeightsError, match=r"toy, which is trained here .*: 1 missing: tokenizer\.encoder\.proj\.weight"):
        strategy.load_checkpoint(path)
    saved["state_dict"] |= {"tokenizer.encoder.proj.weight": gone, "tokenizer.other": gone}
    torch.save(saved, path)
    with pytest.raises(tz.WeightsError, match=r"1 surplus: tokenizer\.other"):
        strategy.load_checkpoint(path)
