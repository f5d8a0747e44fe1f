"""A continuous tokenizer's tables as folders that evaluation takes."""

import json
import sys
from pathlib import Path

import pytest
import torch
from conftest import DATA, small

import tokenizers_zoo as tz
from tokenizers_zoo.cli import main
from tokenizers_zoo.quantizers import FittedDimensionWiseQuantizer
from tokenizers_zoo.zoo import share


def test_tables_are_rows_beside_the_autoencoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(share("trainers")))
    import tokenbridge_tables

    vae = small("kl-tiny")
    vae.save_pretrained(tmp_path / "vae")
    words = ["tables", tmp_path / "vae", "--data", DATA, "--levels", "2", "32", "-o", tmp_path / "levels"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in words])
    tokenbridge_tables.main()
    assert "3 photos, deviation" in capsys.readouterr().out
    photos = [tz.Images.load(path).resize_crop(64).pixels for path in sorted(DATA.glob("*.jpg"))]
    with torch.no_grad():
        latents = vae.encode_latents(torch.cat(photos))
    published, fitted = (tz.load(str(tmp_path / f"levels/{kind}-32")) for kind in ("published", "fitted"))
    assert (published.name, fitted.name) == ("kl-tiny, 32 levels", "kl-tiny fitted, 32 levels")
    assert published.quantizer.scale == pytest.approx(float(1 / latents.std()), abs=1e-4)
    wanted = FittedDimensionWiseQuantizer(8, 32)
    wanted.fit(latents)
    torch.testing.assert_close(fitted.quantizer.table, wanted.table)

    (tmp_path / "suite.yaml").write_text("modality: image\nimage_size: 64\nmetrics: {psnr: PSNR}\n")
    folders = [tmp_path / "vae", *sorted((tmp_path / "levels").iterdir())]
    command = ["eval", *folders, "--suite", tmp_path / "suite.yaml", "--data", DATA, "-o", tmp_path / "out"]
    assert main([str(word) for word in command]) == 0
    assert "| kl-tiny | - | - | " in capsys.readouterr().out
    values = {result["system"]: result["values"] for result in json.loads((tmp_path / "out/results.json").read_text())}
    rates = {name: value.get("bits_per_second_or_pixel") for name, value in values.items()}
    per_level = {2: 8 * 64 / 64**2, 32: 5 * 8 * 64 / 64**2}
    assert rates == {"kl-tiny": None} | {
        f"kl-tiny{kind}, {n} levels": r for kind in ("", " fitted") for n, r in per_level.items()
    }
    assert all(value["psnr"]["items"] == 3 for value in values.values())
    assert "kl-tiny" in (tmp_path / "out/index.html").read_text()
