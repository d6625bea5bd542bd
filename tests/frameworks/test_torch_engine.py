"""The torch engine on a newer torch: integer products on the CPU, two precision interfaces, Triton.

The kernel is interpreted on the CPU, and compiled for CUDA devices without having one; each in a process
of its own, because Triton decides at its import whether it interprets.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import layers
import pytest
from same import differences

from nmc.backends.sim.reference import ReferenceEngine
from nmc.backends.sim.torch_engine import TorchEngine

torch = pytest.importorskip("torch", reason="torch is not installed")
from nmc.backends.sim import torch_routes  # noqa: E402

pytestmark = pytest.mark.frameworks

SUPPORT = Path(__file__).parents[1] / "support"
CASES = """
import sys
sys.path.insert(0, {support!r})
import gen, layers
from nmc import timing
from nmc.backends.sim.reference import ReferenceEngine
from nmc.backends.sim.torch_engine import TorchEngine
from same import differences

chosen = TorchEngine("cpu", {routes})
cases = [(case.network, case.x, case.steps) for case in map(layers.case, range({cases}))]
for seed in range({networks}):
    network = gen.quantize(timing.balance(gen.with_loops(gen.float_network(seed, 4, 3), seed), 62))
    cases.append((network, gen.stimulus(network, 2, 4, seed), 4))
fused = 0
for network, x, steps in cases:
    names = [population.name for population in network.populations]
    for record in (names, ()):
        expected = ReferenceEngine().run(network, x, steps, record)
        wrong = differences(expected, chosen.run(network, x, steps, record))
        assert not wrong, wrong
    fused += sum(layer.fused is not None for layer in chosen._plan[2].values())
print(chosen.problems, fused)
"""
COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from nmc.backends.sim import triton_layer
from nmc.backends.sim.triton_kernel import conv_fire

bytes_of = ("maps", "weight", "spikes")
words_of = ("extra", "parameters", "u", "v", "kept_u", "kept_v")
sizes = {name: getattr(triton_layer, name) for name in ("SITES", "CHANNELS", "FAN_IN")}
flags = [name for name in conv_fire.arg_names if name.isupper() and name not in sizes]
for capability, on in ((80, True), (90, False)):
    constant = sizes | {name: on or name == "FIRES" for name in flags}
    signature = {name: "i32" for name in conv_fire.arg_names}
    signature |= {name: "*i8" for name in bytes_of} | {name: "*i32" for name in words_of}
    signature |= {name: "constexpr" for name in constant}
    places = {(conv_fire.arg_names.index(name),): value for name, value in constant.items()}
    source = ASTSource(fn=conv_fire, signature=signature, constexprs=places)
    options = {"num_warps": triton_layer.WARPS}
    kernel = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert "s32.s8.s8" in kernel.asm["ptx"], "no integer product"
    print(capability, len(kernel.asm["cubin"]) > 0)
"""


def child(code: str, tmp_path: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "TRITON_CACHE_DIR": str(tmp_path)} | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def code(routes: str, cases: int, networks: int) -> str:
    return CASES.format(support=str(SUPPORT), routes=routes, cases=cases, networks=networks)


def test_integer_products_on_the_cpu() -> None:
    chosen = TorchEngine("cpu")
    used = 0
    for seed in range(5000, 5200):
        case = layers.case(seed)
        truth = ReferenceEngine().run(case.network, case.x, case.steps, ("layer",))
        assert not differences(truth, chosen.run(case.network, case.x, case.steps, ("layer",))), seed
        assert chosen._plan is not None
        (layer,) = (layer for name, layer in chosen._plan[2].items() if name == "layer")
        used += any(getattr(a.operator, "route", None) is torch_routes.INT8 for a in layer.arrivals)
    assert used > 20 or "int8" in chosen.problems, "int8 is neither used nor refused"


def test_integer_products_without_vnni_are_found_wrong(tmp_path: Path) -> None:
    out = child(code("None", 60, 4), tmp_path, ONEDNN_MAX_CPU_ISA="AVX2")
    if "wrong" not in out and "int8" in str(TorchEngine("cpu").problems):
        pytest.skip("this CPU has no oneDNN integer product")
    assert "'int8': '17 x 8 x 8: " in out
    assert "sums are wrong" in out


def test_contradicting_precisions_mean_no_float32() -> None:
    before = torch.backends.mkldnn.fp32_precision
    assert torch_routes.full_precision()
    try:
        torch.backends.mkldnn.fp32_precision = "bf16"
        assert not torch_routes.full_precision()
    finally:
        torch.backends.mkldnn.fp32_precision = before
    assert torch_routes.full_precision()


def test_the_kernel_is_exact_when_interpreted(tmp_path: Path) -> None:
    pytest.importorskip("triton", minversion="3.0", reason="Triton 3 is not installed")
    out = child(code("('triton', 'int8', 'float64')", 30, 4), tmp_path, TRITON_INTERPRET="1")
    problems, fused = out.rsplit(" ", 1)
    if "int8" in problems:
        pytest.skip(f"no integer product on this CPU: {problems}")
    assert problems == "{}"
    assert int(fused) >= 10


def test_the_kernel_compiles_for_cuda(tmp_path: Path) -> None:
    pytest.importorskip("triton", minversion="3.0", reason="Triton 3 is not installed")
    assert child(COMPILE, tmp_path) == "80 True\n90 True\n"
