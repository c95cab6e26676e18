r"""State vectors of many anneals at once, in PyTorch.

With S = diag(1, i) on every spin, S† e^{iθσx} S = [[cos θ, -sin θ], [sin θ, cos θ]] is real, and S
commutes with the kicks, which are diagonal. In that frame a turn of k spins is one real orthogonal
2^k x 2^k matrix that all problems share and that acts on real and imaginary parts alike: half the
arithmetic of the complex product. The state is a tensor (2, 2^n, problems); the spins are cut into
factors of at most four, so a turn is ⌈n/4⌉ matrix products with long rows. Fields and couplings
have D-Wave's signs throughout, as programmed: E(s) = Σ h s + Σ J s s is an energy.
"""

import math
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.ising.states import states
from qattn.simulators.statevector.splitting import Kicks, Splitting

FACTOR_SPINS = 4
"""Spins turned by one matrix product: the fastest of 4 and n/2 as measured on one CPU core."""

CHUNK_BYTES = {"cpu": 1 << 22, "cuda": 1 << 30}
"""Bytes of work space that one chunk of problems should have: about a CPU's cache."""

MEMORY_LIMIT = 8 * 2**30
"""Bytes that one chunk may need; assign to ``statevector.MEMORY_LIMIT`` to change it."""

MIN_CHUNK = 16
"""Problems per chunk below which the matrix products have too short rows."""

SMALL_PHASE = 1.0
"""Phase in radians below which cos = sqrt(1 - sin²), which is faster, loses no digits."""

ARRAYS = 8
"""Real numbers of work space per problem and state: two states of two, phases, the energies."""


def evolve(
    h: Float[Tensor, "problems n"],
    J: Float[Tensor, "problems n n"],
    splitting: Splitting,
) -> Float[Tensor, "problems states"]:
    r"""The probabilities |⟨s|ψ(T)⟩|² after the anneal of E(s) = Σ_j h_j s_j + Σ_{j<k} J_jk s_j s_k.

    Beside the result, the memory is that of one chunk of problems (:data:`CHUNK_BYTES`).

    Args:
        h: Programmed fields in D-Wave's sign, ψ' = -2πi(-A/2 Σσx + B/2 E)ψ; float32 computes in
            complex64, float64 in complex128.
        J: Programmed couplings in D-Wave's sign; symmetric, zero diagonal.
        splitting: The splitting of the schedule.

    Returns:
        State i has spin j up where bit j of i is set.

    Raises:
        MemoryError: Even one problem needs more than :data:`MEMORY_LIMIT`.
    """
    problems, n = h.shape
    chunk = min(chunk_size(n, h.element_size(), h.device), problems)
    turns = [_turns(kicks, n, h.dtype, h.device) for kicks, _ in splitting.parts]
    start = _start(n, h.dtype, h.device).unsqueeze(-1)
    # Six arrays: the state and its next value (real and imaginary), a kick's cosines and sines.
    workspace = h.new_empty(6 * (chunk << n))
    out = h.new_zeros(problems, 1 << n)
    for lo in range(0, problems, chunk):
        in_chunk = slice(lo, min(lo + chunk, problems))
        size = in_chunk.stop - lo
        space = workspace[: 6 * (size << n)].view(6, 1 << n, size)
        energy = energies(h[in_chunk], J[in_chunk])
        for (kicks, weight), turn in zip(splitting.parts, turns, strict=True):
            space[:2] = start
            re, im = _run(energy, kicks, turn, space[:2], space[2:4], space[4:])
            # |ψ|², normalised, because the rounding of many kicks adds up to a drift of the norm;
            # and added with the weight of this part of the extrapolation.
            p = re.mul_(re).addcmul_(im, im)
            out[in_chunk].add_(p.div_(p.sum(0)).mT, alpha=weight)
    # Extrapolation can make a small probability slightly negative: cut and normalise.
    if splitting.order > 2:
        out.clamp_(min=0)
        out /= out.sum(1, keepdim=True)
    return out


def _run(
    energy: Tensor, kicks: Kicks, turns: list[Tensor], x: Tensor, y: Tensor, phases: Tensor
) -> Tensor:
    """Apply the kicks and turns to the state x, overwriting x and y; returns the one it ends in."""
    cosine, sine = phases
    largest, one = float(energy.abs().max()), energy.new_ones(())
    for k, kappa in enumerate(kicks.kappa.tolist()):
        # The phases κE of this kick, and their sine and cosine.
        torch.mul(energy, kappa, out=cosine)
        torch.sin(cosine, out=sine)
        if abs(kappa) * largest < SMALL_PHASE:
            torch.addcmul(one, sine, sine, value=-1, out=cosine).sqrt_()
        else:
            cosine.cos_()
        # The kick, e^{-iκE}(x0 + i x1) = (x0 cos + x1 sin) + i (x1 cos - x0 sin).
        torch.mul(x, cosine, out=y)
        y[0].addcmul_(x[1], sine)
        y[1].addcmul_(x[0], sine, value=-1)
        x, y = y, x
        # The turn, factor by factor: what stands before a factor's index, real or imaginary part
        # and higher spins, are rows; lower spins and problems are columns.
        rows = 2
        for turn in turns:
            shape = (rows, turn.shape[1], -1)
            _turn(turn[k], x.view(shape), y.view(shape))
            x, y = y, x
            rows *= turn.shape[1]
    return x


def chunk_size(num_spins: int, itemsize: int, device: torch.device) -> int:
    """The number of problems to evolve together.

    Raises:
        MemoryError: Even one problem needs more than :data:`MEMORY_LIMIT`.
    """
    per_problem = ARRAYS * itemsize << num_spins
    if per_problem > MEMORY_LIMIT:
        raise MemoryError(
            f"The state of an anneal of {num_spins} spins needs about "
            f"{per_problem / 2**30:.3g} GiB, and the limit is {MEMORY_LIMIT / 2**30:.3g} GiB: use "
            f"fewer spins, or the backend 'neal', or raise "
            f"qattn.simulators.statevector.evolution.MEMORY_LIMIT."
        )
    fitting = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"]) // per_problem
    return max(1, min(max(fitting, MIN_CHUNK), MEMORY_LIMIT // per_problem))


def _turn(matrix: Tensor, x: Tensor, out: Tensor) -> None:
    """Turn one factor of x, shape (rows, 2^k, columns); one column makes one matrix product."""
    if x.shape[2] == 1:
        torch.mm(x[..., 0], matrix.mT, out=out[..., 0])
    else:
        torch.bmm(matrix.expand(x.shape[0], -1, -1), x, out=out)


def _factors(num_spins: int) -> list[int]:
    """The numbers of spins of the factors, highest spins first."""
    count = -(-num_spins // FACTOR_SPINS)
    return [num_spins * (i + 1) // count - num_spins * i // count for i in range(count)]


@lru_cache(maxsize=64)
def _start(num_spins: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "two states"]:
    """The real and imaginary part of the uniform superposition, times (-i)^(spins up)."""
    # S† multiplies each spin that is up by -i; parts hold the four powers of -i.
    ups = (states(num_spins, torch.int64, device) + 1).sum(1) // 2 % 4
    parts = torch.tensor([[1, 0, -1, 0], [0, -1, 0, 1]], dtype=dtype, device=device)
    return parts[:, ups] * math.sqrt(0.5**num_spins)


def _turns(
    kicks: Kicks, num_spins: int, dtype: torch.dtype, device: torch.device
) -> list[Float[Tensor, "kicks size size"]]:
    """The real turn matrices of every kick, one tensor per factor."""
    factors = _factors(num_spins)
    # The turn of one spin, [[cos θ, -sin θ], [sin θ, cos θ]], for every kick.
    theta = torch.from_numpy(kicks.theta)
    cos, sin = theta.cos(), theta.sin()
    single = torch.stack([torch.stack([cos, -sin], -1), torch.stack([sin, cos], -1)], -2)
    # Kronecker powers of it turn the m spins of a factor.
    powers = {0: torch.ones(len(theta), 1, 1, dtype=torch.float64)}
    for m in range(max(factors)):
        powers[m + 1] = torch.einsum("kab,kcd->kacbd", single, powers[m]).reshape(
            -1, 2 << m, 2 << m
        )
    return [powers[m].to(device, dtype) for m in factors]


def energies(
    h: Float[Tensor, "problems n"], J: Float[Tensor, "problems n n"]
) -> Float[Tensor, "states problems"]:
    r"""The energies Σ_j h_j s_j + Σ_{j<k} J_jk s_j s_k of all states, from halves of the spins.

    State i has spin j up where bit j of i is set; the upper half is the slow index.
    """
    problems, n = h.shape
    low = n // 2
    SA, SB = (states(m, h.dtype, h.device) for m in (low, n - low))
    # Within the lower half (a) and within the upper half (b), each over its own states.
    a = _half_energies(SA, h[:, :low], J[:, :low, :low])
    b = _half_energies(SB, h[:, low:], J[:, low:, low:])
    # Between them: s_B J_BA for every state of the upper half, then times s_A of the lower half.
    between = J[:, low:, :low].permute(1, 2, 0).reshape(n - low, low * problems)
    energy = torch.matmul(SA, (SB @ between).view(len(SB), low, problems))
    energy += a
    energy += b.unsqueeze(1)
    return energy.view(1 << n, problems)


def _half_energies(S: Tensor, h: Tensor, J: Tensor) -> Float[Tensor, "states problems"]:
    """The energies of one half's states S, as one product with its spins and pairs of spins."""
    pairs = torch.triu_indices(J.shape[1], J.shape[1], 1, device=J.device)
    features = torch.cat([S, S[:, pairs[0]] * S[:, pairs[1]]], 1)
    return features @ torch.cat([h, J[:, pairs[0], pairs[1]]], 1).mT
