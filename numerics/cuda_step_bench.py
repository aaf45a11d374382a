"""A training step on the GPU, captured as a CUDA graph: this package's beside PyTorch's, on the same numbers."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

from .network import Network
from .updates import Updater

#: Steps between two events.
STEPS = 200


def step_times(
    spec: str = "784-256-128-10", batch: int = 128, activation: str = "gelu", dtype: str = "float32", rounds: int = 7
) -> dict[str, Any]:
    """Microseconds of a step (forward, softmax with cross-entropy, backward, Adam), medians over interleaved rounds.

    Each step copies its batch into the graph's own memory first. Also returned: the largest difference of the
    parameters after the first 20 steps from those the CPU computes, and PyTorch's from the same, relative to the
    largest parameter.
    """
    network = Network(spec, activation, dtype=dtype)
    network.draw("gain_normal", activation, np.random.default_rng(0))
    start = network.flat.copy()
    rng = np.random.default_rng(1)
    X = rng.normal(size=(batch, network.widths[0])).astype(dtype)
    labels = rng.integers(0, network.widths[-1], batch)
    Y = network.targets(labels)
    updater = Updater("adam", network.parameter_count, dtype)
    for _ in range(20):
        updater.step(network.flat, network.gradient(X, Y))
    after = network.flat.copy()
    network.flat[...] = start
    found: dict[str, Any] = {"spec": spec, "batch": batch, "activation": activation, "dtype": dtype}
    runners: dict[str, Any] = {}
    for name, build in (("backproof", _ours), ("PyTorch", _torch)):
        try:
            run, flat, note = build(network, X, Y, labels, 20)
            found[name] = {
                "difference_after_20_steps": float(abs(flat() - after).max() / abs(after).max()),
                "graph": note(),
            }
            runners[name] = run
        except Exception as problem:
            found[name] = {"error": f"{type(problem).__name__}: {problem}".splitlines()[0][:300]}
    times: dict[str, list[float]] = {name: [] for name in runners}
    for _ in range(rounds):
        for name, run in runners.items():
            times[name].append(run(STEPS))
    for name, microseconds in times.items():
        found[name] |= {"median_us": statistics.median(microseconds), "low_us": min(microseconds)}
    return found


def _ours(network: Network, X: Any, Y: Any, labels: Any, steps: int) -> tuple[Any, Any, Any]:
    """(time a number of steps, parameters so far, why not captured); ``steps`` are taken first."""
    import cupy

    from .cuda_training import GraphedStep, cuda_engine
    from .device_step import Step

    engine = cuda_engine(network, Updater("adam", network.parameter_count, network.dtype.name))
    graphed = GraphedStep(Step(network, engine))
    with graphed.stream:
        inputs, targets = cupy.asarray(X), cupy.asarray(Y)
        for _ in range(steps):
            graphed(inputs, targets)
        early = graphed.step.flat.get()
    begin, end = cupy.cuda.Event(), cupy.cuda.Event()

    def run(count: int) -> float:
        with graphed.stream:
            begin.record()
            for _ in range(count):
                graphed(inputs, targets)
            end.record()
            end.synchronize()
        return float(cupy.cuda.get_elapsed_time(begin, end)) / count * 1e3

    return run, lambda: early, lambda: graphed.reason or "captured"


def _torch(network: Network, X: Any, Y: Any, labels: Any, steps: int) -> tuple[Any, Any, Any]:
    """The same for PyTorch: the whole step in one graph, the fused Adam."""
    import torch

    kinds = {"relu": torch.nn.ReLU, "gelu": torch.nn.GELU, "tanh": torch.nn.Tanh, "silu": torch.nn.SiLU}
    layers: list[Any] = []
    for n_in, n_out in zip(network.widths, network.widths[1:], strict=False):
        layers += [torch.nn.Linear(n_in, n_out), kinds[network.activation]()]
    model = torch.nn.Sequential(*layers[:-1]).to("cuda", getattr(torch, network.dtype.name))
    linear = [layer for layer in model if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for k, layer in enumerate(linear, start=1):
            layer.weight.copy_(torch.from_numpy(network.parameters[f"W{k}"].T.copy()))
            layer.bias.copy_(torch.from_numpy(network.parameters[f"b{k}"].copy()))
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3, capturable=True, fused=True)
    given, wanted = torch.from_numpy(X).cuda(), torch.from_numpy(labels).cuda()
    inputs, targets = given.clone(), wanted.clone()

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(inputs), targets).backward()
        optimiser.step()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    optimiser.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        step()

    def replay(count: int) -> None:
        for _ in range(count):
            inputs.copy_(given)
            targets.copy_(wanted)
            graph.replay()

    replay(steps - 3)
    parts = [p for layer in linear for p in (layer.weight.detach().T.reshape(-1), layer.bias.detach())]
    early = torch.cat(parts).cpu().numpy()
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def run(count: int) -> float:
        begin.record()
        replay(count)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / count * 1e3

    return run, lambda: early, lambda: "captured"
