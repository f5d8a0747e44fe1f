"""Which single-line mistakes do the tests notice? `python benchmarks/mutants.py --rooms losses quantizers --out /tmp/mutants`.

In a copy of the checkout, one small change at a time (a mutant: another operator, number or function; a term, an option or a
statement left out) is written into a file of a room. That room's tests run in a fork of a process that has imported torch
already: those that reach the line, or all where none is seen to (another process may), fast before slow, until one fails.
Which mutants are tried is decided by a hash of the seed and the changed line, so that a sample stays the same where the code
does. --out keeps results.json and what each test reaches: run again after a change of code or tests, and what was caught is not
tried again. A mutant that changes nothing that anyone could see (an equivalent one) is listed by its key in mutants.md and does
not count.
"""

import argparse
import ast
import contextlib
import hashlib
import importlib
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from ast import unparse as text
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {"trainers": ["trainers"], "losses": ["losses", "discriminators"], "quantizers": ["quantizers"], "eval": ["eval"]}
OPERATORS = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.Pow: "*",
    ast.BitAnd: "|",
}
COMPARISONS = {ast.Lt: "<= >=", ast.LtE: "< >", ast.Gt: ">= <=", ast.GtE: "> <", ast.Eq: "!=", ast.NotEq: "=="}
COMPARISONS |= {ast.Is: "is_not", ast.IsNot: "is", ast.In: "not_in", ast.NotIn: "in"}
PAIRS = ("min max", "amin amax", "any all", "sum mean", "argmin argmax", "mse_loss l1_loss", "sin cos", "log exp", "zeros ones")
PAIRS += ("no_grad enable_grad", "append remove", "startswith endswith", "ceil floor", "square sqrt", "zeros_like ones_like")
QUIET = ("-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")  # plugins are there already
SWAPS = {a: b for pair in PAIRS for a, b in (pair.split(), pair.split()[::-1])}
LIBRARIES = {"F", "torch", "np", "math"}
SYMMETRIC = {"min", "max", "mse_loss", "l1_loss", "add", "cosine_similarity", "logaddexp"}
DROPPED = {"detach", "float", "abs", "sqrt", "square", "log", "log10", "exp", "clamp", "relu", "logsigmoid", "normalize", "pad"}
DROPPED |= {"eval", "train", "requires_grad_", "sorted", "flatten", "reversed", "resample", "transpose", "int", "round", "lower"}


def changes(node: Any) -> Iterator[tuple[Any, str]]:
    """What of `node` is replaced, and by what."""
    match node:
        case ast.BinOp(a, op, b):
            yield node, text(a)
            if type(op) in OPERATORS:
                yield node, f"({text(a)}) {OPERATORS[type(op)]} ({text(b)})"
        case ast.BoolOp(op, values):
            word, neutral = (" or ", "True") if isinstance(op, ast.And) else (" and ", "False")
            yield node, word.join(f"({text(value)})" for value in values)
            yield from ((value, neutral) for value in values)
        case ast.Compare(a, [op], [b]):
            yield from ((node, f"{text(a)} {other.replace('_', ' ')} {text(b)}") for other in COMPARISONS[type(op)].split())
        case ast.UnaryOp(ast.Not() | ast.USub(), x):
            yield node, text(x)
        case ast.Constant(bool(x)):
            yield node, str(not x)
        case ast.Constant(int(x)):
            yield from ((node, str(x + 1)), (node, str(x - 1)))
        case ast.Constant(float(x)):
            yield node, str(2 * x or 1.0)
        case ast.Call(function, args, keywords):
            word = getattr(function, "attr", getattr(function, "id", ""))
            if word in SWAPS:
                yield function, re.sub(r"\w+$", SWAPS[word], text(function))
            if word in DROPPED:
                own = isinstance(function, ast.Attribute) and getattr(function.value, "id", "") not in LIBRARIES
                yield from ((node, text(x)) for x in ([function.value] if own else args[:1]))
            if len(args) == 2 and word not in SYMMETRIC:
                yield node, text(ast.Call(function, args[::-1], keywords))
            for i, keyword in enumerate(keywords):
                yield node, text(ast.Call(function, args, keywords[:i] + keywords[i + 1 :]))
                if keyword.arg in ("min", "max"):
                    yield node, text(ast.Call(function, args, [ast.keyword(SWAPS[keyword.arg], keyword.value)]))
        case ast.If(test) | ast.IfExp(test) | ast.While(test):
            yield test, f"not ({text(test)})"
        case ast.comprehension(_, _, tests):
            yield from ((test, "True") for test in tests)
        case ast.Slice(lower, upper):
            yield from ((x, f"{text(x)} + 1") for x in (lower, upper) if x and not isinstance(x, ast.Constant))
        case ast.AugAssign() | ast.Expr(ast.Call()) if not text(node).startswith("super().__init__"):
            yield node, "pass"
        case ast.Assign([ast.Name(target)], value) if any(getattr(n, "id", "") == target for n in ast.walk(value)):
            yield node, "pass"


def walk(node: ast.AST) -> Iterator[tuple[Any, str]]:
    """Changes of `node` and all in it, but of annotations, messages of errors, imports and strings."""
    if not isinstance(node, ast.Raise | ast.Import | ast.ImportFrom | ast.JoinedStr):
        yield from changes(node)
        for name, value in ast.iter_fields(node):
            for child in (value if isinstance(value, list) else [value]) if name not in ("annotation", "returns") else ():
                yield from walk(child) if isinstance(child, ast.AST) else ()


def mutants(file: str, seed: int) -> list[dict[str, Any]]:
    """All of one file, each with the whole changed `source`."""
    source, found = (ROOT / file).read_bytes(), {}
    lines = source.splitlines(keepends=True)
    for node, new in walk(ast.parse(source)):
        begin = sum(map(len, lines[: node.lineno - 1])) + node.col_offset
        end = sum(map(len, lines[: node.end_lineno - 1])) + node.end_col_offset
        changed = source[:begin] + (new if isinstance(node, ast.stmt) else f"({new})").encode() + source[end:]
        before = re.sub(r"\s+", " ", source[begin:end].decode())
        name = f"{seed} {file} {lines[node.lineno - 1].strip().decode()} {node.col_offset} {before} {new}"
        while name in found:
            name += " again"
        with warnings.catch_warnings(action="ignore"), contextlib.suppress(SyntaxError):
            compile(changed, file, "exec")
            span = list(range(node.lineno, node.end_lineno + 1))
            found[name] = {"file": file, "lines": span, "before": before, "after": new, "source": changed.decode()}
    return [{"key": hashlib.sha256(name.encode()).hexdigest()[:10], **mutant} for name, mutant in found.items()]


class Order:
    """A plugin: runs `tests` in their order; without any, all, and notes the seconds and the lines of `room` that each takes."""

    def __init__(self, room: str, tests: list[str] | None = None):
        self.here, self.tests, self.room, self.failed = f"{Path.cwd()}/", tests, f"tokenizers_zoo/{room}/", set[str]()
        self.seen: dict[str, Any] = {}
        self.shared: dict[int, tuple[float, set[str]]] = {}  # what fixtures of several tests take and reach: counts for each
        self.lines: set[str] = set()

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self.tests:
            items[:] = sorted((i for i in items if i.nodeid in self.tests), key=lambda i: self.tests.index(i.nodeid))

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Any:
        before, began = set(self.lines), time.monotonic()
        try:
            return (yield)
        finally:
            if fixturedef.scope != "function" and id(fixturedef) not in self.shared:
                self.shared[id(fixturedef)] = (time.monotonic() - began, self.lines - before)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: Any) -> Any:
        self.lines, began = set(), time.monotonic()

        def trace(frame: Any, event: str, _: object) -> Any:
            file = frame.f_code.co_filename.removeprefix(self.here)
            if not file.startswith(self.room):
                return None
            self.lines.add(f"{file}:{frame.f_lineno}")
            return trace

        sys.settrace(None if self.tests else trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            fixtures = {id(x) for found in item._fixtureinfo.name2fixturedefs.values() for x in found} & self.shared.keys()
            seconds = max([time.monotonic() - began, *(self.shared[x][0] for x in fixtures)])
            self.seen[item.nodeid] = {
                "seconds": seconds,
                "lines": sorted(self.lines.union(*(self.shared[x][1] for x in fixtures))),
            }

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.failed |= {report.nodeid} if report.failed else set()

    def pytest_sessionfinish(self) -> None:
        modules = [name for name, x in sys.modules.items() if "site-packages" in (getattr(x, "__file__", None) or "")]
        seen = {name: x for name, x in self.seen.items() if name not in self.failed}
        Path("seen.json").write_text(json.dumps({"modules": modules, "failed": sorted(self.failed), "tests": seen}))


def run(files: list[str], order: Order, limit: float) -> str:
    """pytest in a process of its own: "passed", the test that failed, "timeout", or "error" where none could run."""
    Path("seen.json").unlink(missing_ok=True)
    if not (child := os.fork()):
        os.setsid()
        log, code = os.open("log.txt", os.O_CREAT | os.O_WRONLY | os.O_TRUNC), 9
        os.dup2(log, 1), os.dup2(log, 2)
        try:
            code = int(pytest.main([*files, *QUIET, *(["-x"] if order.tests else [])], plugins=[order]))
        except BaseException:
            traceback.print_exc()
        os._exit(code)
    end = time.monotonic() + limit
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < end:
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if not ended[0]:
        os.waitpid(child, 0)
        return "timeout"
    failed = json.loads(Path("seen.json").read_text())["failed"] if Path("seen.json").exists() else []
    return "passed" if ended[1] == 0 else failed[0] if failed else "error"


def watched(room: str, out: Path) -> dict[str, Any]:
    """What every test of a room takes and reaches, from --out if nothing has changed since."""
    files = sorted(
        f for folder in (f"tokenizers_zoo/{room}", *(f"tests/{t}" for t in ROOMS[room])) for f in Path(folder).rglob("*.py")
    )
    state = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:10]
    kept = out / f"{room}-{state}.json"
    if not kept.exists():
        run([f"tests/{t}" for t in ROOMS[room]], Order(room), 3600)
        kept.write_text(Path("seen.json").read_text())
    return json.loads(kept.read_text()) | {"state": state}


def tried(mutant: dict[str, Any], room: str, seen: dict[str, Any], slow: float, budget: float) -> dict[str, Any]:
    """The mutant with its `result`: the name of a test, timeout, error or passed."""
    places = {f"{mutant['file']}:{line}" for line in mutant["lines"]}
    reached = {name for name, x in seen["tests"].items() if places & set(x["lines"])}
    tests, spent = [], 0.0
    for name in sorted(reached or seen["tests"], key=lambda n: seen["tests"][n]["seconds"]):
        seconds = seen["tests"][name]["seconds"]
        if seconds <= slow and spent + seconds <= budget:
            tests, spent = [*tests, name], spent + seconds
    file, original, began = Path(mutant["file"]), Path(mutant["file"]).read_text(), time.monotonic()
    file.write_text(mutant["source"])
    os.utime(file, (begun := time.time_ns() % 10**9, begun))  # a time of its own, for Python keeps bytecode by time and size
    try:
        result = run(sorted({name.split("::")[0] for name in tests}), Order(room, tests), 4 * spent + 40)
    finally:
        file.write_text(original)
    kept = {name: value for name, value in mutant.items() if name != "source"}
    return kept | {
        "reached": len(reached),
        "result": result,
        "seconds": round(time.monotonic() - began, 1),
        "state": seen["state"],
    }


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=list(ROOMS))
    parser.add_argument("--only", nargs="+", help="files, such as tokenizers_zoo/trainers/module.py: all their mutants")
    parser.add_argument("--count", type=int, default=300, help="size of the sample of all four rooms")
    parser.add_argument("--seed", type=int, default=15)
    parser.add_argument("--slow", type=float, default=20, help="tests that take longer are left out")
    parser.add_argument("--budget", type=float, default=60, help="seconds of tests a mutant")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    files = sorted(str(f.relative_to(ROOT)) for room in ROOMS for f in (ROOT / "tokenizers_zoo" / room).rglob("*.py"))
    sample = sorted((m for file in args.only or files for m in mutants(file, args.seed)), key=lambda m: m["key"])
    chosen = sample if args.only else sample[: args.count]
    known = out / "results.json"
    results = json.loads(known.read_text()) if known.exists() else {}
    equivalent = set(re.findall(r"`([0-9a-f]{10})`", (ROOT / "benchmarks/mutants.md").read_text()))
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT, f"{folder}/tree", ignore=shutil.ignore_patterns("__pycache__", ".*", "out"))
        os.chdir(f"{folder}/tree")
        sys.path[0] = os.environ["PYTHONPATH"] = os.getcwd()
        for room in args.rooms if not args.only else sorted({file.split("/")[1] for file in args.only}):
            seen, own = watched(room, out), [m for m in chosen if m["file"].split("/")[1] == room]
            print(
                f"{room}: {len(seen['tests'])} tests, failing {seen['failed']}, {len(own)} of {len(sample)} mutants", flush=True
            )
            for module in seen["modules"]:
                with contextlib.suppress(BaseException), warnings.catch_warnings(action="ignore"):
                    importlib.import_module(module)
            control = {"file": f"tokenizers_zoo/{room}/__init__.py", "lines": []}
            control["source"] = Path(control["file"]).read_text()
            if (result := tried(control, room, seen, args.slow, args.budget)["result"]) != "passed":
                raise SystemExit(f"the unchanged code does not pass: {result}\n{Path('log.txt').read_text()[-4000:]}")
            for mutant in own:
                before = results.get(mutant["key"])
                if mutant["key"] in equivalent or (before and (before["result"] != "passed" or before["state"] == seen["state"])):
                    continue
                found = results[mutant["key"]] = tried(mutant, room, seen, args.slow, args.budget)
                known.write_text(json.dumps(results, indent=1))
                print(found["seconds"], found["result"], f"{found['file']}:{found['lines'][0]}", flush=True)
            counted = [results[m["key"]] for m in own if m["key"] not in equivalent]
            missed = [m for m in counted if m["result"] == "passed"]
            for m in missed:
                print(f"| `{m['key']}` | {m['file']}:{m['lines'][0]} | `{m['before']}` -> `{m['after']}` | {m['reached']} |")
            share = 100 * (1 - len(missed) / max(1, len(counted)))
            print(f"{room}: {share:.0f} % of {len(counted)} caught, {len(own) - len(counted)} equivalent", flush=True)


if __name__ == "__main__":
    main()
