"""FlexTok's guided steps against the same without what they save: `python benchmarks/guidance.py`.

Plain: a pass with tokens and a pass without, each over all 256 registers written out, registers and embeddings of the time made
anew at every step. Random weights, float32, one image; both take turns, and both give the same map. The ratio is the median over
the rounds of the plain time by ours.
"""

import argparse

import torch
from measure import interleaved, ratio
from torch import Tensor

import tokenizers_zoo as tz
from tokenizers_zoo.blocks.flow import euler, euler_times
from tokenizers_zoo.blocks.flow_decoder import Condition, FlowDecoder
from tokenizers_zoo.blocks.guidance import ProjectedGuidance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="flextok-d12-d12")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1, 16, 64, 128, 256])
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    decoder = tz.create(args.name).decoder.eval().to(args.device)
    noise = torch.randn(1, *decoder.noise_shape, device=args.device)
    for count in args.tokens:
        latents = torch.rand(1, count, decoder.dim, device=args.device)
        calls = {
            "ours": lambda latents=latents: decoder(latents, noise=noise, steps=args.steps).cpu(),
            "plain": lambda latents=latents: plain(decoder, latents, noise, args.steps).cpu(),
        }
        torch.testing.assert_close(calls["ours"](), calls["plain"](), rtol=1e-3, atol=1e-4)
        times = interleaved(calls, args.rounds)
        seconds = {name: min(found) / args.steps for name, found in times.items()}
        told = f"{count} tokens: a step {1000 * seconds['ours']:.0f} ms, plain {1000 * seconds['plain']:.0f} ms"
        print(f"{told}, ratio {ratio(times, 'plain', 'ours'):.2f}", flush=True)


def plain(decoder: FlowDecoder, latents: Tensor, noise: Tensor, steps: int) -> Tensor:
    """`decoder(latents, noise=noise, steps=steps)` step by step and branch by branch."""
    guide, times = ProjectedGuidance(), euler_times(steps).to(noise)
    padded = torch.zeros(len(latents), decoder.positions, decoder.dim).to(latents)
    padded[:, : latents.shape[1]] = latents
    lengths = torch.full((len(latents),), latents.shape[1], device=latents.device)

    def velocity(sample: Tensor, step: int) -> Tensor:
        time = times[step].expand(len(sample))
        (with_tokens,), _ = decoder.run(sample, decoder.modulations(time), decoder.condition(padded, lengths))
        null = Condition(decoder.null_token.expand(len(sample), decoder.positions, -1), 1, None)
        (without,), _ = decoder.run(sample, decoder.modulations(time), null)
        return guide(with_tokens, without, decoder.guidance)

    return euler(velocity, noise, steps)


if __name__ == "__main__":
    main()
