"""First weights of the two tiny tokenizers: reconstruction and codebook losses only, on a CPU.

    python trainers/first_light.py dm-codec-tiny FOLDER_OF_16KHZ_CLIPS --steps 1800 --batch-size 24 -o checkpoints/dm-codec-tiny
    python trainers/first_light.py titok-tiny FOLDER_OF_PHOTOS --steps 2600 --batch-size 32 -o checkpoints/titok-tiny

Audio is cropped to 1 s, photos are resized and cropped to the tokenizer's size and flipped at random.
"""

import argparse
import random
from pathlib import Path
from typing import Any

import lightning
import soundfile
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import tokenizers_zoo as tz
from tokenizers_zoo.losses.spectral import MultiScaleMelLoss

LICENSE = {"dm-codec-tiny": "CC-BY-4.0", "titok-tiny": "research use (Tiny ImageNet)"}  # follow the data's


class Crops(Dataset[Tensor]):
    """Endless random second of the clips below a folder, (1, sample_rate) each; long clips count more."""

    def __init__(self, folder: Path, tokenizer: tz.AudioTokenizer, length: int):
        self.files = sorted(p for p in folder.rglob("*") if p.suffix in {".wav", ".flac"})
        self.frames = [soundfile.info(p).frames for p in self.files]
        self.rate, self.length = tokenizer.sample_rate, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        path = random.choices(self.files, self.frames)[0]
        frames = soundfile.info(path).frames
        start = random.randrange(max(1, frames - self.rate + 1))
        clip, rate = soundfile.read(path, self.rate, start, dtype="float32", always_2d=True)
        if rate != self.rate:
            raise tz.InputError(f"{path} has {rate} Hz; resample the folder to {self.rate} Hz")
        clip = torch.from_numpy(clip).mean(1)[None]
        return torch.nn.functional.pad(clip, (0, self.rate - clip.shape[-1]))


class Photos(Dataset[Tensor]):
    """Endless random photo below a folder, (3, size, size) in [0, 1], flipped half of the time."""

    def __init__(self, folder: Path, tokenizer: tz.ImageTokenizer, length: int):
        self.files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
        self.size, self.length = tokenizer.image_size, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        pixels = tz.Images.load(random.choice(self.files)).resize_crop(self.size).pixels[0]
        return pixels.flip(-1) if random.random() < 0.5 else pixels


class FirstLight(lightning.LightningModule):
    """AdamW with warm-up and cosine decay; one reconstruction loss and 0.25 times the commitment."""

    def __init__(self, tokenizer: tz.Tokenizer, distance: nn.Module, rate: float):
        super().__init__()
        self.tokenizer, self.distance, self.rate = tokenizer, distance, rate

    def training_step(self, batch: Tensor) -> Tensor:
        result = self.tokenizer(batch)
        reconstruction = self.distance(result.output.float(), batch)
        loss = reconstruction + 0.25 * result.quantized.losses.get("commitment", 0.0)
        self.log("reconstruction", reconstruction, prog_bar=True)
        self.log("usage", result.quantized.usage.mean(), prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), self.rate, betas=(0.9, 0.95), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.rate, int(self.trainer.estimated_stepping_batches), pct_start=0.03, final_div_factor=100
        )
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


class WaveDistance(nn.Module):
    """Multi-scale log-mel distance plus the mean absolute difference of the samples."""

    def __init__(self, sample_rate: int):
        super().__init__()
        n_ffts = (2048, 1024, 512, 256, 128)
        hops = [n // 4 for n in n_ffts]
        self.mel = MultiScaleMelLoss(sample_rate, n_ffts, hops, (128, 80, 64, 40, 20), (1.0,) * 5)

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return self.mel(output[:, 0], target[:, 0]) + 5 * (output - target).abs().mean()


class PixelDistance(nn.Module):
    """Mean square plus 0.2 times mean absolute difference."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).square().mean() + 0.2 * (output - target).abs().mean()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", choices=["dm-codec-tiny", "titok-tiny"])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("out/first-light"), help="checkpoints; a run resumes from them")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.backends.cuda.enable_flash_sdp(False)  # governs CPUs too, where plain attention in bfloat16 trains 1.8 times as fast
    lightning.seed_everything(args.seed, workers=True)
    tokenizer = tz.create(args.variant)
    samples = args.steps * args.batch_size
    if isinstance(tokenizer, tz.AudioTokenizer):
        data: Dataset[Tensor] = Crops(args.data, tokenizer, samples)
        module = FirstLight(tokenizer, WaveDistance(tokenizer.sample_rate), rate=5e-4)
    else:
        assert isinstance(tokenizer, tz.ImageTokenizer)
        data = Photos(args.data, tokenizer, samples)
        module = FirstLight(tokenizer, PixelDistance(), rate=1e-3)
    work = args.work / args.variant
    save = lightning.pytorch.callbacks.ModelCheckpoint(work, every_n_train_steps=500, save_last=True)
    trainer = lightning.Trainer(
        max_steps=args.steps,
        precision="bf16-mixed",
        gradient_clip_val=1.0,
        accelerator="cpu",
        callbacks=[save],
        logger=lightning.pytorch.loggers.CSVLogger(work),
        enable_model_summary=False,
    )
    last = work / "last.ckpt"
    trainer.fit(module, DataLoader(data, args.batch_size), ckpt_path=last if last.exists() else None)
    tokenizer.license = LICENSE[args.variant]
    tokenizer.save_pretrained(args.output, torch.float16)


if __name__ == "__main__":
    main()
