"""The core computes with operations that give the same bits everywhere, and with no others.

What is banned differs between processors, numpy versions or BLAS libraries: reductions of floats,
products of matrices, everything transcendental. Reductions of whole numbers are written in Python.
"""

import ast
from pathlib import Path

import pytest

CORE = Path(__file__).parents[2] / "services" / "core" / "fedbus_core"

REDUCTIONS = (
    "sum mean average var std nansum nanmean cumsum cumprod prod median percentile quantile"
)
PRODUCTS = "dot vdot inner outer matmul tensordot einsum kron convolve correlate cov corrcoef trace"
TRANSCENDENTAL = (
    "exp exp2 expm1 log log2 log10 log1p power float_power pow cbrt hypot sin cos tan arcsin arccos "
    "arctan arctan2 sinh cosh tanh logaddexp"
)
OTHERS = "linalg fft random interp polyfit polyval linspace geomspace logspace fma"
BANNED_NUMPY = frozenset(" ".join([REDUCTIONS, PRODUCTS, TRANSCENDENTAL, OTHERS]).split())
BANNED_METHODS = frozenset(["sum", "var", "std", "dot", "cumsum", "cumprod", "prod", "trace"])
BANNED_MATH = frozenset(TRANSCENDENTAL.split()) | {"gamma", "lgamma", "erf", "erfc", "dist"}
BANNED_MODULES = frozenset({"scipy", "numexpr", "numba", "random", "cmath", "statistics"})
TOTALS = frozenset({"self", "total", "accumulator"})
"""Receivers whose `mean` is ours: an `Accumulator`, never an array."""


def faults(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult):
            found.append(f"line {node.lineno}: @")
        elif isinstance(node, ast.Attribute):
            found += _attribute(node)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found += _import(node)
    return found


def _attribute(node: ast.Attribute) -> list[str]:
    owner = node.value.id if isinstance(node.value, ast.Name) else ""
    owner = node.value.attr if isinstance(node.value, ast.Attribute) else owner
    banned = {"np": BANNED_NUMPY, "numpy": BANNED_NUMPY, "math": BANNED_MATH}.get(
        owner, BANNED_METHODS
    )
    if node.attr in banned or (node.attr == "mean" and owner not in TOTALS | {"np", "math"}):
        return [f"line {node.lineno}: {owner}.{node.attr}"]
    return []


def _import(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    else:
        modules = [node.module or ""]
        if modules[0] in ("numpy", "math"):
            banned = BANNED_NUMPY if modules[0] == "numpy" else BANNED_MATH
            modules += [alias.name for alias in node.names if alias.name in banned]
            return [f"line {node.lineno}: from {modules[0]} import {m}" for m in modules[1:]]
    return [f"line {node.lineno}: import {m}" for m in modules if m.split(".")[0] in BANNED_MODULES]


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda p: str(p.relative_to(CORE)))
def test_only_portable_operations(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    [
        "np.sum(x)",
        "x.sum()",
        "self.values.mean()",
        "(x + y).mean(axis=0)",
        "np.exp(x)",
        "numpy.log(x)",
        "np.linalg.norm(x)",
        "x @ y",
        "x @= y",
        "math.pow(x, 2)",
        "from math import exp",
        "from numpy import dot",
        "import scipy.special",
        "from random import random",
        "f = np.einsum",
    ],
)
def test_the_lint_sees(line: str) -> None:
    assert faults(line)


def test_the_lint_lets_pass() -> None:
    assert faults("np.add(x, y, out=x); x.min(); sum(whole); total.mean(base); math.fsum(x)") == []
