"""With what and where a number or a weight came about."""

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = (
    *("tokenizers-zoo", "torch", "torchaudio", "lightning", "transformers", "jiwer", "pystoi", "pesq"),
    *("distillmos", "speechmos", "onnxruntime"),
    *("librosa", "torchmetrics", "torch-fidelity", "timm", "scikit-learn", "numpy", "pillow"),
)


def versions() -> dict[str, str]:
    """Of this library, Python, and the packages that decide numbers."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """The processor or GPU that computes."""
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}, {torch.get_num_threads()} threads"


def commit() -> str:
    """Of the checkout that this library is in, "+" where files were changed; empty for an installed package."""
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "--short=10", "HEAD")
        return head + ("+" if head and git("status", "--porcelain", "--untracked-files=no") else "")
    except FileNotFoundError:
        return ""
