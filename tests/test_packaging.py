"""The wheel carries models/, checkpoints/, trainers/ and eval/, and works away from the checkout; the README's Python runs."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml
from conftest import DATA

import tokenizers_zoo as tz
from tokenizers_zoo import zoo

ROOT = Path(__file__).parent.parent


def test_shared_folders_are_found_in_a_checkout() -> None:
    assert zoo.share("models") == ROOT / "models"
    assert zoo.share("checkpoints") == ROOT / "checkpoints"


def test_the_wheel_works_elsewhere(tmp_path: Path) -> None:
    def run(*words: object, **options: object) -> str:
        done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, cwd=tmp_path, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    run("-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "--target", tmp_path / "site", wheel)
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    where = run("-c", "import tokenizers_zoo; print(tokenizers_zoo.__file__)", env=env)
    assert str(tmp_path / "site") in where
    assert (tmp_path / "site/tokenizers_zoo/eval/report.html").is_file()
    listed = run("-m", "tokenizers_zoo", "list", env=env)
    assert [line.split()[0] for line in listed.splitlines()] == tz.list_tokenizers()
    config = yaml.safe_load(run("-m", "tokenizers_zoo", "fit", "-c", "titok-tiny", "--print_config", env=env))
    assert config["model"]["tokenizer"]["init_args"]["encoder"]["init_args"]["positions"] == 84  # of ../models
    inside = tmp_path / "site/tokenizers_zoo/share"
    for kind in ("trainers", "eval"):
        files = {path.relative_to(ROOT / kind) for path in (ROOT / kind).rglob("*.*") if "__pycache__" not in path.parts}
        found = {path.relative_to(inside / kind) for path in (inside / kind).rglob("*.*")}
        assert {path for path in found if "__pycache__" not in path.parts} == files  # pip compiles
    for name, source, suffix in (
        ("lm-spt-tiny", "sense_and_sensibility_0880.wav", "wav"),
        ("titok-tiny", "chelsea.jpg", "png"),
    ):
        run("-m", "tokenizers_zoo", "encode", name, DATA / source, "-o", f"{name}.tok", env=env)
        run("-m", "tokenizers_zoo", "decode", f"{name}.tok", "-o", f"x.{suffix}", env=env)
        assert (tmp_path / f"x.{suffix}").stat().st_size > 1000
        assert tz.Tokens.load(tmp_path / f"{name}.tok") == tz.load(name).encode(DATA / source)


def test_the_source_archive_holds_what_the_readme_speaks_of() -> None:
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    wanted = {"trainers", "eval", "models", "checkpoints", "tests", "benchmarks", "Makefile", "constraints.txt", "CHANGELOG.md"}
    assert wanted <= set(included)
    assert all((ROOT / name).exists() for name in included)


def test_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With small stand-ins for the files it names, and for the calls that need gigabytes or the Hub."""
    monkeypatch.chdir(tmp_path)
    tz.Audio.load(DATA / "sense_and_sensibility_0880.wav").save("speech.wav")
    for name in ("a.jpg", "b.png"):
        tz.Images.load(DATA / "chelsea.jpg").save(name)
    create = tz.create

    def meta(name: str, **overrides: object) -> tz.Tokenizer:
        with torch.device("cpu" if name.endswith("-tiny") else "meta"):
            return create(name, **overrides)

    monkeypatch.setattr(tz, "create", meta)
    monkeypatch.setattr(tz, "load_official", lambda variant, *source: meta(variant))
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) >= 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
    assert tz.Audio.load("out.wav").waveform.shape == tz.Audio.load("speech.wav").waveform.shape


def test_readme_table_lists_every_variant() -> None:
    table = (ROOT / "README.md").read_text()
    assert set(re.findall(r"^\| \[`([\w.-]+)`\]", table, re.MULTILINE)) == set(tz.list_tokenizers())


def test_constraints_pin_what_pyproject_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *(d for extra in project["optional-dependencies"].values() for d in extra)]
    names = {re.split(r"[\[>=]", d)[0].lower().replace("_", "-") for d in wanted} - {"tokenizers-zoo"}
    pins = (ROOT / "constraints.txt").read_text()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in pins.splitlines() if "==" in line}
    assert names <= pinned
