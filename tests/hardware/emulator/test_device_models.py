"""Emulations of real processors: published counts and times, and the offsets of strong chains."""

import math

import numpy as np
import pytest
from _support.emulated import sampler_of

from qattn.hardware.emulator import EmulatedQPU, EmulatorSettings
from qattn.hardware.emulator.physics.device_models import CHAIN_OFFSET, DEVICE_MODELS

PUBLISHED = {  # qubits, couplers, programming ms, readout µs of all qubits, delay µs
    "advantage2-system1": (4577, 41515, 33.6, 101.0, 60.6),
    "advantage2-system2": (4514, 40409, 24.5, 95.0, 20.6),
    "advantage2-system4": (1202, 10537, 8.0, 45.0, 20.6),
}
BETA = 4.0


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("seed", [0, 1])
def test_counts_and_times_are_the_published_ones(name, seed):
    qubits, couplers, programming, readout, delay = PUBLISHED[name]
    qpu = EmulatedQPU(device=name, seed=seed)
    properties = qpu.properties
    assert (len(properties["qubits"]), len(properties["couplers"])) == (qubits, couplers)
    assert properties["topology"]["shape"] == [6 if name.endswith("4") else 12, 4]
    timing = properties["problem_timing_data"]
    assert timing["typical_programming_time"] == 1000 * programming
    assert timing["qpu_delay_time_per_sample"] == delay
    model = timing["readout_time_model_parameters"]
    assert [10**value for value in model[2:]] == pytest.approx([17.0, readout])
    assert 10 ** model[1] == pytest.approx(qubits)
    assert qpu.name == f"Emulated_{DEVICE_MODELS[name].name}"


def test_a_recalibrated_device_keeps_its_times():
    with EmulatedQPU(device="advantage2-system1", spare=True) as qpu:
        before = qpu.properties["problem_timing_data"]["qpu_delay_time_per_sample"]
        qpu.recalibrate()
        after = qpu.properties["problem_timing_data"]["qpu_delay_time_per_sample"]
    assert before == after == 60.6
    assert len(qpu.graph.qubits) == 4576


def test_missing_qubits_follow_the_seed():
    first, again, other = (DEVICE_MODELS["advantage2-system4"].graph(seed) for seed in (0, 0, 1))
    assert first.digest == again.digest != other.digest


def test_a_device_has_its_own_shape():
    for changes in ({"shape": (3, 4)}, {"topology": "pegasus"}):
        with pytest.raises(ValueError, match="`shape` must be left out with a `device`"):
            EmulatorSettings(device="advantage2-system4", **changes)
    with pytest.raises(ValueError, match=r"`device` must be one of advantage2-system1, .*'qpu'"):
        EmulatorSettings(device="qpu")


def test_offsets_are_on_for_devices_and_off_otherwise():
    assert EmulatorSettings().offset_of_chains == 0.0
    assert EmulatorSettings(device="advantage2-system4").offset_of_chains == CHAIN_OFFSET
    chosen = EmulatorSettings(device="advantage2-system4", chain_offset=0.0)
    assert chosen.offset_of_chains == 0.0


def magnetization_of_pairs(sampler, J, reads=4000):
    """Mean spin of the first qubit of disjoint pairs that are coupled by J."""
    used, couplers = set(), []
    for u, v in sampler.edgelist:
        if not {u, v} & used:
            used |= {u, v}
            couplers.append((u, v))
    answer = sampler.sample_ising(
        {},
        dict.fromkeys(couplers, J),
        num_reads=reads,
        answer_mode="raw",
        auto_scale=False,
        fast_anneal=True,
        annealing_time=0.005,
    )
    columns = [answer.variables.index(u) for u, _ in couplers]
    return answer.record.sample[:, columns].mean(0)


def test_offsets_grow_with_the_coupling_of_the_chain():
    """Pairs at J = -2, -1.5 and within the calibrated range; and without the setting."""
    reads, found = 4000, {}
    for offset in (0.05, 0.0):
        settings = {"beta_h": BETA, "beta_J": 20.0, "chain_offset": offset}
        with EmulatedQPU(**settings) as qpu, sampler_of(qpu) as sampler:
            for J in (-2.0, -1.5, -1.0):
                found[offset, J] = magnetization_of_pairs(sampler, J, reads)
    # The pair follows the sum of two independent offsets: m = tanh(β √2 δ ξ), ξ standard normal.
    x, w = np.polynomial.hermite_e.hermegauss(60)
    for J, excess in ((-2.0, 1.0), (-1.5, 0.5), (-1.0, 0.0)):
        squares = found[0.05, J] ** 2
        of_model = np.tanh(BETA * math.sqrt(2) * 0.05 * excess * x)
        second, fourth = (float(w @ of_model**power / w.sum()) for power in (2, 4))
        expected = second + (1 - second) / reads
        # Spread of m² over pairs, and the shot noise of each m.
        error = math.sqrt((fourth - second**2 + 4 * second / reads + 2 / reads**2) / len(squares))
        assert abs(squares.mean() - expected) < 5 * error
        # The control: no offset, no magnetization.
        assert (
            abs((found[0.0, J] ** 2).mean() - 1 / reads) < 5 * math.sqrt(2 / len(squares)) / reads
        )
    # The offsets are the qubits' own: half as large at -1.5, of the same sign.
    strong, weak = found[0.05, -2.0], found[0.05, -1.5]
    assert float(np.corrcoef(strong, weak)[0, 1]) > 0.95
