"""Limits of a device as the emulated service judges them."""

import numpy as np
import pytest
from _support.emulated import sampler_of

from qattn.hardware.embedding.limits import DeviceRanges
from qattn.hardware.emulator import EmulatedQPU

pytestmark = pytest.mark.usefixtures("nobodys_machine")


class Biases:
    """A problem that no packing made."""

    def __init__(self, graph, linear=(), quadratic=()):
        self.linear, self.quadratic = np.zeros(len(graph.qubits)), np.zeros(len(graph.couplers))
        for qubit, bias in dict(linear).items():
            self.linear[graph.position_of_qubit(qubit)] = bias
        for (u, v), bias in dict(quadratic).items():
            self.quadratic[graph.position_of_coupler(u, v)] = bias


@pytest.mark.usefixtures("as_users_call")
@pytest.mark.parametrize(
    ("topology", "shape", "name", "limits"),
    [
        ("zephyr", (3, 4), "per_group", (-13.0, 10.0)),
        ("pegasus", (4,), "per_qubit", (-18.0, 15.0)),
    ],
)
@pytest.mark.parametrize("bias", [-2.0, 1.0])
def test_sums_of_couplings_as_the_service_judges_them(topology, shape, name, limits, bias):
    """Couplers of the busiest qubit, one more at a time: refused exactly where it is too much."""
    with EmulatedQPU(topology=topology, shape=shape) as qpu:
        graph = qpu.graph
        ranges = DeviceRanges.from_properties(qpu.properties, graph)
        hub = int(np.bincount(graph.couplers.ravel()).argmax())
        ends = list(map(tuple, graph.couplers[(graph.couplers == hub).any(1)].tolist()))
        with sampler_of(qpu) as sampler:
            for arms in range(4, len(ends) + 1, 4):
                J = dict.fromkeys(ends[:arms], bias)
                times = ranges.excess(Biases(graph, {}, J))[name]
                answer = sampler.sample_ising({}, J, auto_scale=False)
                if times > 1 + 1e-9:
                    with pytest.raises(Exception, match="out of range"):
                        answer.resolve()
                else:
                    answer.resolve()
    total = bias * arms
    limit = limits[0] if bias < 0 else limits[1]
    if topology == "pegasus":
        assert times == pytest.approx(total / limit)
