"""Many small Ising models in one object, and the one place that knows dimod's sign convention."""

from dataclasses import InitVar, dataclass

import dimod
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor

from qattn._tracing import is_traced
from qattn.couplings.base import Couplings, beta_like, check_finite, interaction
from qattn.ising.checks import check_beta, check_shapes, checked_couplings, checked_lengths
from qattn.ising.precision import without_autocast
from qattn.ising.union_bqm import union_bqm


def to_dimod_signs(h: Tensor, J: Tensor) -> tuple[Tensor, Tensor]:
    r"""Biases in dimod's convention, E = Σ linear·s + Σ quadratic·s·s with P ∝ exp(-βE).

    qattn writes p(s) ∝ exp(β(Σ h s + Σ J s s)), so linear = -h and quadratic = -J. Every
    conversion between the two conventions goes through this function.
    """
    return -h, -J


@dataclass(frozen=True, eq=False, repr=False)
class IsingBatch:
    r"""A batch of Ising models that share couplings within a group and differ in their fields.

    Query :math:`q` of group :math:`g` has the Boltzmann distribution

    .. math::
        p_{gq}(s) = \frac{1}{Z_{gq}} \exp\Big(\beta\big(\sum_j h_{gqj} s_j
                    + \sum_{j<k} J_{gjk} s_j s_k\big)\Big),
        \qquad s_j \in \{-1, +1\},

    over its first ``lengths[q]`` spins; the other spins are absent (not fixed, not masked: the
    model is smaller), and every function that returns a value per spin returns 0 there. Positive
    J is cooperative (ferromagnetic). In attention a group is a head and a query a position of a
    sequence (Kim and Park, arXiv 2606.12478).

    Args:
        h: Local fields, shape (groups, queries, spins), float32 or float64.
        J: Couplings, shape (groups, spins, spins): symmetric, with zero diagonal. An asymmetry of
            up to 1e-6 of max |J| is treated as rounding and averaged away; more is an error,
            because the sum over j < k and the sum over all j, k would then disagree. For
            couplings given in one triangle, pass ``J.triu(1) + J.triu(1).mT``. Or a structure of
            :mod:`qattn.couplings`, whose interaction takes the place of the sum over pairs.
        lengths: Number of active spins per query, shape (queries,), or (groups, queries) where
            groups differ; None means all spins everywhere. Kept on the CPU.
        beta: Inverse temperature, 0 or more (at 0 every state is as likely); a float, or a tensor
            of shape () or (groups,) when it is learnable.
        validate: Check the values (finite h and J, symmetric J, beta ≥ 0, lengths in range).
            Shapes are checked always. Switch it off inside ``torch.func.vmap``, or where a GPU
            must not wait. What is traced (compiled, exported, on meta) is never checked.

    Raises:
        ValueError: An argument has the wrong shape, a value out of range, or J is asymmetric.
        TypeError: h and J are not of the same floating dtype.

    Two spins in opposite fields, coupled ferromagnetically:

    >>> J = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    >>> batch = IsingBatch(torch.tensor([[[0.5, -0.5]]]), J)
    >>> batch.energies(torch.tensor([[[[1, 1], [1, -1]]]]))  # of two states, in dimod's sign
    tensor([[[-1.,  0.]]])
    >>> batch.to_bqms()[0]
    BinaryQuadraticModel({0: -0.5, 1: 0.5}, {(1, 0): -1.0}, 0.0, 'SPIN')
    """

    h: Float[Tensor, "groups queries spins"]
    J: Float[Tensor, "groups spins spins"] | Couplings
    lengths: Int[Tensor, " queries"] | Int[Tensor, "groups queries"] | None = None
    beta: float | Float[Tensor, ""] | Float[Tensor, " groups"] = 1.0
    validate: InitVar[bool] = True

    def __post_init__(self, validate: bool) -> None:
        check_shapes(self.h, self.J)
        validate = validate and not is_traced(self.h)
        if self.lengths is not None:
            lengths = checked_lengths(self.lengths, self.h, validate)
            object.__setattr__(self, "lengths", lengths)
        if isinstance(self.beta, Tensor) and self.beta.shape not in ((), (self.num_groups,)):
            raise ValueError(
                f"Argument `beta` must be a number or have shape () or ({self.num_groups},), "
                f"but has shape {tuple(self.beta.shape)}."
            )
        if validate:
            check_finite("h", self.h)
            object.__setattr__(self, "J", checked_couplings(self.J))
            check_beta(self.beta)

    def __repr__(self) -> str:
        """What it is, in a line."""
        n = str(self.num_spins)
        if self.lengths is not None and self.lengths.numel() and not is_traced(self.lengths):
            n = " to ".join(map(str, sorted({int(self.lengths.min()), int(self.lengths.max())})))
        beta = self.beta
        if isinstance(beta, Tensor):
            values = "a tensor" if is_traced(beta) else [f"{b:g}" for b in beta.flatten().tolist()]
            text = values if isinstance(values, str) else ", ".join(values)
            text = f"[{text}]" if beta.ndim else text
        else:
            text = f"{beta:g}"
        parts = [
            counted(self.num_groups, "group"),
            counted(self.num_queries, "query", "queries"),
            f"{n} spin" if n == "1" else f"{n} spins",
            f"beta={text}",
        ]
        if self.h.dtype != torch.float32:
            parts.append(str(self.h.dtype).removeprefix("torch."))
        if self.h.device.type != "cpu":
            parts.append(str(self.h.device))
        return f"IsingBatch({', '.join(parts)})"

    @property
    def matrix(self) -> Float[Tensor, "groups spins spins"]:
        """J, where it is a tensor.

        Raises:
            TypeError: It is a structure.
        """
        if isinstance(self.J, Couplings):
            raise TypeError(
                f"Argument `J` must be a tensor here, but is {type(self.J).__name__}: take the "
                f"models of `batch.dense()`."
            )
        return self.J

    @property
    def num_groups(self) -> int:
        """Number of groups; the queries of a group share one J."""
        return self.h.shape[0]

    @property
    def num_queries(self) -> int:
        """Number of queries in each group."""
        return self.h.shape[1]

    @property
    def num_spins(self) -> int:
        """Number of spins of the longest query."""
        return self.h.shape[2]

    @property
    def active(self) -> Bool[Tensor, "#groups queries spins"]:
        """True where a query has a spin, on the device of h; first dimension 1 or groups."""
        n = self.num_spins
        if self.lengths is None:
            return torch.ones(1, self.num_queries, n, dtype=torch.bool, device=self.h.device)
        lengths = self.lengths if self.lengths.ndim == 2 else self.lengths[None]
        return (torch.arange(n, device="cpu") < lengths[..., None]).to(self.h.device)

    @property
    def num_active(self) -> NDArray[np.int64]:
        """Number of active spins, shape (groups, queries)."""
        shape = (self.num_groups, self.num_queries)
        lengths = self.num_spins if self.lengths is None else self.lengths.numpy()
        return np.broadcast_to(np.asarray(lengths, dtype=np.int64), shape)

    def scaled(
        self,
    ) -> tuple[Float[Tensor, "groups queries spins"], Float[Tensor, "groups spins spins"]]:
        r"""βh and βJ as tensors: the same models at β = 1. Differentiable in h, J and β.

        Raises:
            ValueError: The interaction is that of no matrix
                (:meth:`qattn.couplings.Couplings.dense`).
        """
        h, J = self.scaled_structure()
        return (h, J) if isinstance(J, Tensor) else _with_dense_J(h, J, self.num_active)

    def scaled_structure(
        self,
    ) -> tuple[
        Float[Tensor, "groups queries spins"], Float[Tensor, "groups spins spins"] | Couplings
    ]:
        r"""βh, and βJ in the structure that it has: the same models at β = 1."""
        if not isinstance(self.beta, Tensor) and self.beta == 1.0:
            return self.h, self.J
        h = beta_like(self.beta, self.h) * self.h
        if isinstance(self.J, Couplings):
            return h, self.J.scaled(self.beta)
        return h, beta_like(self.beta, self.J) * self.J

    def dense(self) -> "IsingBatch":
        """The same models with J as a tensor; this one if it is.

        Raises:
            ValueError: The interaction is that of no matrix
                (:meth:`qattn.couplings.Couplings.dense`).
        """
        if isinstance(self.J, Tensor):
            return self
        h, J = _with_dense_J(self.h, self.J, self.num_active)
        return IsingBatch(h, J, self.lengths, self.beta, validate=False)

    def energies(self, spins: Tensor) -> Float[Tensor, "groups queries reads"]:
        r"""Energies in dimod's sign, E(s) = -Σ_j h_j s_j - Σ_{j<k} J_jk s_j s_k, so P ∝ exp(-βE).

        Equal to ``bqm.energy`` of the models of :meth:`to_bqms`. Values at absent spins are
        ignored. Units: those of h and J (β is not applied).

        Args:
            spins: Values in {-1, +1}, shape (groups, queries, reads, spins), any dtype.

        Raises:
            ValueError: `spins` has another shape.
        """
        G, Q, n = self.h.shape
        if spins.ndim != 4 or spins.shape[:2] != (G, Q) or spins.shape[3] != n:
            raise ValueError(
                f"Argument `spins` must have shape ({G}, {Q}, reads, {n}), "
                f"but has shape {tuple(spins.shape)}."
            )
        s = spins.to(self.h.dtype) * self.active.unsqueeze(2)
        with without_autocast(self.h.device):
            pairs = interaction(self.J, s.flatten(1, 2).mT).unflatten(1, s.shape[1:3])
            fields = (s @ self.h.unsqueeze(-1)).squeeze(-1)
        linear, quadratic = to_dimod_signs(fields, pairs)
        return linear + quadratic

    def to_bqms(self) -> list[dimod.BinaryQuadraticModel]:
        r"""One spin-valued ``dimod.BinaryQuadraticModel`` per query, group by group.

        Model number ``g * num_queries + q`` has the variables 0 … lengths[q] - 1, linear biases
        -h and quadratic biases -J (every pair, zero couplings too). β is not applied: weight
        dimod's samples with exp(-β·energy).
        """
        linear, quadratic = self.dimod_biases()
        return [
            union_bqm(linear[p : p + 1, :length], quadratic[g : g + 1, :length, :length])
            for p, (g, length) in enumerate(
                zip(self.group_of_problem, self.num_active.ravel(), strict=True)
            )
        ]

    def to_union_bqm(self) -> dimod.BinaryQuadraticModel:
        r"""One BQM that holds every query as a disjoint block, so a sampler sees one problem.

        The variables are running integers over the active spins in the order (group, query,
        spin); the energy is the sum of the blocks' energies. β is not applied.
        :func:`qattn.ising.union_bqm.split_union` splits its reads again.
        """
        linear, quadratic = self.dimod_biases()
        return union_bqm(linear, quadratic, self.group_of_problem, self.num_active.ravel())

    def dimod_biases(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Linear biases -h, shape (groups · queries, spins), and quadratic -J, as arrays."""
        dense = self.dense()
        linear, quadratic = (
            x.detach().to("cpu", torch.float64).numpy()
            for x in to_dimod_signs(dense.h, dense.matrix)
        )
        return linear.reshape(-1, self.num_spins), quadratic

    @property
    def group_of_problem(self) -> NDArray[np.int64]:
        """The group of problem number ``g * num_queries + q``, shape (groups · queries,)."""
        return np.repeat(np.arange(self.num_groups), self.num_queries)

    def with_ghost_spin(self) -> "IsingBatch":
        r"""The same models with their fields carried by couplings to one more spin, number 0.

        .. math::
            \sum_j h_j s_j + \sum_{j<k} J_{jk} s_j s_k \;\to\;
            \sum_j h_j s_0 s_j + \sum_{j<k} J_{jk} s_j s_k

        All fields are then zero (a QPU's fast anneal allows no others) and a read of the
        original model is :math:`s_0 s_j`: see :meth:`qattn.SpinSamples.without_ghost_spin`.
        Fields differ between queries, so every query becomes a group of its own: h has shape
        (groups · queries, 1, spins + 1), J (groups · queries, spins + 1, spins + 1).
        """
        G, Q, n = self.h.shape
        dense = self.dense()
        # Spin 0 in front: its couplings are the fields, which differ between queries, so that each
        # query gets a J of its own.
        J = torch.nn.functional.pad(dense.matrix, (1, 0, 1, 0))
        J = J.unsqueeze(1).expand(G, Q, n + 1, n + 1).clone()
        J[..., 0, 1:] = dense.h
        J[..., 1:, 0] = dense.h
        beta = self.beta
        if isinstance(beta, Tensor) and beta.ndim == 1:
            beta = beta.repeat_interleave(Q)
        lengths = None
        if self.lengths is not None:
            lengths = torch.from_numpy(self.num_active + 1).reshape(G * Q, 1)
        h = self.h.new_zeros(G * Q, 1, n + 1)
        return IsingBatch(h, J.flatten(0, 1), lengths, beta, validate=False)


def counted(number: int, singular: str, plural: str = "") -> str:
    """A number and its noun."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def _with_dense_J(
    h: Float[Tensor, "groups queries spins"], couplings: Couplings, num_active: NDArray[np.int64]
) -> tuple[Float[Tensor, "groups queries spins"], Float[Tensor, "groups spins spins"]]:
    """Fields, with those that come with the matrix, and the matrix of a structure."""
    field = couplings.field(torch.from_numpy(num_active.copy()).to(h))
    return (h if field is None else h + field.unsqueeze(-1)), couplings.dense()
