r"""Spin glasses on sparse graphs: lattices, random regular graphs and the graphs of QPUs.

Every problem has couplings of its own on the bonds of its graph, of random signs (``binary``) or
normally distributed (``gaussian``), and no others. float64, fixed by a seed.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from qattn.ising.batch import IsingBatch
from qattn.problems.standard import random_fields

Bonds = NDArray[np.int64]
"""Pairs of spins, shape (bonds, 2)."""
Couplings = Literal["binary", "gaussian"]
Topology = Literal["chimera", "pegasus", "zephyr"]


def edwards_anderson(
    num_problems: int = 10,
    size: int = 4,
    *,
    dimensions: int = 2,
    periodic: bool = True,
    couplings: Couplings = "binary",
    coupling: float = 1.0,
    field_sd: float = 0.0,
    seed: int = 0,
) -> IsingBatch:
    r"""The model of Edwards and Anderson: a spin glass on a square or cubic lattice.

    .. math:: J_{jk} \in \{-c, c\} \text{ or } J_{jk} \sim N(0, c^2)
              \text{ for neighbours } j, k, \qquad h_j \sim N(0, \text{field\_sd}^2)

    (J. Phys. F 5, 965 (1975)). Spin number :math:`(x L + y) L + z` of a cube is at (x, y, z): the
    last coordinate runs fastest. A side of two spins has one bond, whether it is periodic or not:
    both ways round lead to the same neighbour.

    Args:
        num_problems: Number of problems.
        size: Spins L along each side; there are :math:`L^d` in all.
        dimensions: Number d of dimensions of the lattice.
        periodic: Whether the last spin along a side is a neighbour of the first.
        couplings: ``binary`` for random signs, ``gaussian`` for a normal distribution.
        coupling: |J| of binary couplings, standard deviation of Gaussian ones.
        field_sd: Standard deviation of the fields.
        seed: Seed of fields and couplings.

    Raises:
        ValueError: `size` is below 2, `num_problems` or `dimensions` below 1, `field_sd` is
            negative, or `couplings` is another word.

    >>> batch = edwards_anderson(2, size=3, dimensions=3)
    >>> batch.h.shape, int((batch.J[0] != 0).sum()) // 2  # 27 spins with 6 neighbours each
    (torch.Size([2, 1, 27]), 81)
    """
    if size < 2:
        raise ValueError(f"Argument `size` must be at least 2, but is {size}.")
    if dimensions < 1:
        raise ValueError(f"Argument `dimensions` must be positive, but is {dimensions}.")
    sites = np.arange(size**dimensions).reshape([size] * dimensions)
    pairs = []
    for axis in range(dimensions):
        along = np.moveaxis(sites, axis, 0)
        pairs.append((along[:-1], along[1:]))
        if periodic and size > 2:
            pairs.append((along[0], along[-1]))
    bonds = np.concatenate([np.stack([a.ravel(), b.ravel()], 1) for a, b in pairs])
    return _glass(
        num_problems, [bonds] * num_problems, sites.size, couplings, coupling, field_sd, seed
    )


def random_regular(
    num_problems: int = 10,
    num_spins: int = 8,
    *,
    degree: int = 3,
    couplings: Couplings = "binary",
    coupling: float = 1.0,
    field_sd: float = 0.0,
    seed: int = 0,
) -> IsingBatch:
    r"""Spin glasses on random graphs all of whose spins have `degree` neighbours.

    Every problem has a graph of its own, ``networkx.random_regular_graph``.

    Raises:
        ValueError: There is no such graph, as `degree` is not below the number of spins or the
            product of the two is odd; `num_problems` is not positive, `field_sd` is negative, or
            `couplings` is another word.
    """
    if not 1 <= degree < num_spins or degree * num_spins % 2:
        raise ValueError(
            f"Argument `degree` must be from 1 to num_spins - 1, and even where num_spins is odd, "
            f"but is {degree} for {num_spins} spins."
        )
    from networkx import random_regular_graph

    seeds = np.random.SeedSequence(seed).generate_state(max(num_problems, 0)).tolist()
    graphs = [sorted(random_regular_graph(degree, num_spins, seed=s).edges) for s in seeds]
    bonds = [np.array(edges, dtype=np.int64) for edges in graphs]
    return _glass(num_problems, bonds, num_spins, couplings, coupling, field_sd, seed)


def qpu_native(
    num_problems: int = 10,
    size: int = 1,
    *,
    topology: Topology = "zephyr",
    couplings: Couplings = "binary",
    coupling: float = 1.0,
    field_sd: float = 0.0,
    seed: int = 0,
) -> IsingBatch:
    r"""Spin glasses on the whole graph of a perfect QPU, so that each spin is a qubit.

    The graph is ``dwave.graphs.zephyr_graph(size)``, or that of another topology. Spin j is the
    qubit ``sorted(graph)[j]``, by D-Wave's linear labels: on Chimera and Zephyr that is qubit j,
    on Pegasus some labels have no qubit. C4 has 128 qubits, P2 40, Z1 48.

    Raises:
        ValueError: `size` is below 1 (2 for Pegasus: a P1 has no qubits), `num_problems` is not
            positive, `field_sd` is negative, or `topology` or `couplings` is another word.

    >>> batch = qpu_native(3, topology="chimera", size=2)
    >>> batch.h.shape, int((batch.J[0] != 0).sum()) // 2
    (torch.Size([3, 1, 32]), 80)
    """
    if topology not in ("chimera", "pegasus", "zephyr"):
        raise ValueError(
            f"Argument `topology` must be chimera, pegasus or zephyr, but is {topology!r}."
        )
    least = 2 if topology == "pegasus" else 1
    if size < least:
        raise ValueError(f"Argument `size` must be at least {least} for {topology}, but is {size}.")
    import dwave.graphs

    graph = getattr(dwave.graphs, f"{topology}_graph")(size)
    qubits = sorted(graph)
    bonds = np.searchsorted(qubits, sorted(map(sorted, graph.edges)))
    return _glass(
        num_problems, [bonds] * num_problems, len(qubits), couplings, coupling, field_sd, seed
    )


def _glass(
    num_problems: int,
    bonds: list[Bonds],
    num_spins: int,
    couplings: Couplings,
    coupling: float,
    field_sd: float,
    seed: int,
) -> IsingBatch:
    """Random couplings on the bonds of each problem's graph, and random fields."""
    if couplings not in ("binary", "gaussian"):
        raise ValueError(f"Argument `couplings` must be binary or gaussian, but is {couplings!r}.")
    h = random_fields(num_problems, num_spins, field_sd, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    J = torch.zeros(num_problems, num_spins, num_spins, dtype=torch.float64)
    for p, pairs in enumerate(bonds):
        values = torch.randn(len(pairs), generator=generator, dtype=torch.float64)
        row, col = torch.from_numpy(pairs).unbind(1)
        J[p, row, col] = coupling * (values if couplings == "gaussian" else values.sign())
    return IsingBatch(h.unsqueeze(1), J + J.mT)
