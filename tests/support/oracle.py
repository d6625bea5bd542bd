"""An independent oracle: the float network's meaning in pure-Python integers, zero delay.

Shares no code with nmc but the IR's field names. Numbers are kept in v units (64 per weight unit), decays
in 4096ths. All populations share a step; there is no level, delay, relay line or clearing here.
"""

from __future__ import annotations

import itertools

from nmc import ir


def synapses(projection: ir.Projection, source: ir.Population, target: ir.Population):
    """[(source index, weight)] for each target index, by explicit loops over coordinates."""
    table = [[] for _ in range(target.size)]
    op, weight = projection.synapse, projection.weight
    if isinstance(op, ir.Identity):
        channel = target.size // target.shape[0]
        for i in range(target.size):
            value = weight if weight.ndim == 0 else weight.reshape(-1)[i // channel]
            table[i].append((i, int(value)))
        return table
    if isinstance(op, ir.Dense):
        for i, j in itertools.product(range(target.size), range(source.size)):
            table[i].append((j, int(weight[i, j])))
        return table
    _, height, width = source.shape
    out_c, out_h, out_w = target.shape
    pool = isinstance(op, ir.SumPool2d)
    kernel = op.kernel if pool else weight.shape[2:]
    dilation = (1, 1) if pool else op.dilation
    for o, y, x in itertools.product(range(out_c), range(out_h), range(out_w)):
        index = (o * out_h + y) * out_w + x
        for ky, kx in itertools.product(range(kernel[0]), range(kernel[1])):
            sy = y * op.stride[0] + ky * dilation[0] - op.padding[0]
            sx = x * op.stride[1] + kx * dilation[1] - op.padding[1]
            if not (0 <= sy < height and 0 <= sx < width):
                continue
            if pool:
                table[index].append(((o * height + sy) * width + sx, int(weight)))
                continue
            per_group = weight.shape[1]
            first = o // (out_c // op.groups) * per_group
            for i in range(per_group):
                table[index].append((((first + i) * height + sy) * width + sx, int(weight[o, i, ky, kx])))
    return table


def truncate(x: int) -> int:
    """x / 4096 towards zero."""
    return x // 4096 if x >= 0 else -(-x // 4096)


def _flat(array, population: ir.Population, index: int) -> float:
    if array.ndim == 0:
        return float(array)
    coordinates, rest = [], index
    for size in reversed(population.shape):
        coordinates.insert(0, rest % size)
        rest //= size
    coordinates = coordinates[-array.ndim :]
    return float(array[tuple(0 if array.shape[k] == 1 else c for k, c in enumerate(coordinates))])


def run(network: ir.Network, sample, steps: int) -> dict[str, list[tuple[list[int], list[int], list[int]]]]:
    """Spikes, u and v of every population and step for one sample.

    Args:
        network: FLOAT, weights and thresholds whole numbers, biases multiples of 1/64, decays of 1/4096.
        sample: (*shape) frame or (T, *shape) train of integers.
    """
    train = sample if sample.ndim > len(network.inputs[0].shape) else [sample] * steps
    history: dict[str, list[tuple[list[int], list[int], list[int]]]] = {}
    tables, state = {}, {}
    for population in network.populations:
        history[population.name] = []
        tables[population.name] = [
            (p.source, p.lag, synapses(p, network[p.source], population), p.on_host)
            for p in network.projections
            if p.target == population.name
        ]
        start = getattr(population.neuron, "v0", None)
        v = [0 if start is None else round(_flat(start, population, i) * 64) for i in range(population.size)]
        state[population.name] = ([0] * population.size, v)
    for t in range(steps):
        for population in network.populations:
            name = population.name
            if population.is_input:
                history[name].append(([int(x) for x in train[t].reshape(-1)], [], []))
                continue
            arriving = [
                (history[source][t - lag][0], table, on_host)
                for source, lag, table, on_host in tables[name]
                if t >= lag
            ]
            history[name].append(_step(population, arriving, *state[name]))
    return history


def _step(population, arriving, u, v):
    """One step; u and v are changed."""
    neuron = population.neuron
    spikes = [0] * population.size
    for i in range(population.size):
        a, host = (
            sum(
                w * sent[j]
                for sent, table, on_host in arriving
                if on_host is wanted
                for j, w in table[i]
                if sent[j]
            )
            for wanted in (False, True)
        )
        if isinstance(neuron, ir.GradedRelay):
            spikes[i] = a
            continue
        bias = 0 if population.bias is None else round(_flat(population.bias, population, i) * 64)
        bias += host * 64  # the host writes its part of the current as bias: it never enters u
        u[i] = truncate(u[i] * round(neuron.keep_u * 4096)) + a * 64
        v[i] = truncate(v[i] * round(neuron.keep_v * 4096)) + u[i] + bias
        v[i] = max(-(2**23 - 1), min(2**23 - 1, v[i]))
        if neuron.threshold is None:
            continue
        threshold = round(_flat(neuron.threshold, population, i)) * 64
        # Off the grid of whole weights the chip has no ">=": ties go to the strict comparison.
        on_grid = neuron.keep_v in (0, 1) and neuron.keep_u == 0 and bias_on_grid(population)
        at_least = on_grid and neuron.compare is ir.Compare.GREATER_EQUAL
        if v[i] > threshold or (at_least and v[i] == threshold):
            spikes[i] = 1
            v[i] = v[i] - threshold if neuron.reset is ir.Reset.SUBTRACT else 0
    return spikes, list(u), list(v)


def bias_on_grid(population) -> bool:
    return population.bias is None or all(round(float(b) * 64) % 64 == 0 for b in population.bias.reshape(-1))
