r"""What layers with couplings share: the parameters of J, and where mean spins come from."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from qattn.attention.models import check_interaction, check_moments
from qattn.backends import Backend, check_num_reads, get_backend
from qattn.couplings import Couplings
from qattn.estimators import check_estimator
from qattn.ising.precision import at_least_single, without_autocast
from qattn.layers.beta import WithBeta
from qattn.layers.structures import Structure, make_structure
from qattn.mean_field import warn_if_failed


class WithCouplings(WithBeta):
    """A layer's couplings and their source of moments, on which its subclasses build.

    Attributes:
        structure: The structure of J.
        last_info: What the backend reported about the reads of the last pass.
    """

    last_info: Mapping[str, Any]
    structure: Structure
    interaction: str
    moments: str
    has_transition = True
    _backend: str | Backend | None
    _backend_name: str

    def _start_couplings(
        self,
        num_heads: int,
        context: int,
        embed_dim: int,
        *,
        couplings: str,
        interaction: str,
        backend: str | Backend,
        num_reads: int,
        estimator: str | None,
        moments: str,
        device: Device = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        self.backend, self.num_reads, self.estimator = backend, num_reads, estimator
        check_moments(moments, backend, estimator)
        self.moments, self._warned_of = moments, ""
        self.last_info = {}
        self.structure = make_structure(couplings, num_heads, context, embed_dim, **options)
        check_interaction(interaction, couplings)
        self.interaction = interaction
        start = self.structure.start()
        self._coupling_names = tuple(start)
        for name, value in start.items():
            made = value.to(device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(made, not self.structure.frozen))

    def _reset_couplings(self) -> None:
        """Draw the parameters of J anew."""
        with torch.no_grad():
            for name, value in self.structure.start().items():
                self.get_parameter(name).copy_(value)

    def _noted(self, info: Mapping[str, Any]) -> None:
        """Keep what was reported of a pass, and warn of mean-field moments once."""
        if "report" in info and self._warned_of != self.moments:
            self._warned_of = warn_if_failed(info["report"], self.moments)
        if not torch.compiler.is_compiling():  # an exported model has no side effects
            self.last_info = info

    @property
    def backend(self) -> str | Backend:
        """Where ⟨s⟩ comes from: a backend, made once if it was set by name, or "exact"."""
        if self._backend is None:
            self._backend = get_backend(self._backend_name)
        return self._backend

    @backend.setter
    def backend(self, backend: str | Backend) -> None:
        if not isinstance(backend, str | Backend):
            raise TypeError(
                f"Argument `backend` must be a Backend or the name of one, but is {backend!r}."
            )
        by_name = isinstance(backend, str) and backend != "exact"
        made = get_backend(str(backend)) if by_name else backend
        self._backend, self._backend_name = made, str(backend) if by_name else ""

    @property
    def num_reads(self) -> int:
        """Reads per query of a sampling backend."""
        return self._num_reads

    @num_reads.setter
    def num_reads(self, num_reads: int) -> None:
        check_num_reads(num_reads)
        self._num_reads = num_reads

    @property
    def estimator(self) -> str | None:
        """How reads become ⟨s⟩ and its gradients; None for the backend's default."""
        return self._estimator

    @estimator.setter
    def estimator(self, estimator: str | None) -> None:
        if estimator is not None:
            check_estimator(estimator)
        self._estimator = estimator

    def _shown_couplings(self) -> str:
        """The settings of the couplings."""
        made = self._backend if isinstance(self._backend, str) else type(self._backend).__name__
        shown_moments = "" if self.moments == "exact" else f", moments={self.moments!r}"
        reads = "" if made == "exact" else f", num_reads={self.num_reads}"
        reads += f", estimator={self.estimator!r}" if self.estimator else ""
        shown = {} if self.structure.kind == "dense" else {"couplings": self.structure.kind}
        shown |= self.structure.options
        shown |= {} if self.interaction == "spin" else {"interaction": self.interaction}
        options = "".join(f", {name}={value!r}" for name, value in shown.items())
        return f"{options}, backend={self._backend_name or made}{reads}{shown_moments}"

    def _refused_sampler(self, _: object) -> None:
        raise AttributeError("Attribute `sampler` of a layer is called `backend`: set that.")

    sampler = property(fset=_refused_sampler)

    def __getstate__(self) -> dict[str, Any]:
        """State for copies and pickles: of a backend that was set by name, the name alone.

        The copy makes its own when it is first used.
        """
        state = self.__dict__ | {"last_info": {}}
        return state | {"_backend": None} if self._backend_name else state

    @property
    def couplings(self) -> Float[Tensor, "heads context context"] | Couplings:
        """J, differentiable in ``coupling_values``: a matrix if it is dense, else its structure.

        Raises:
            ValueError: It depends on the input: take :meth:`couplings_of`.
        """
        if self.structure.content:
            raise ValueError(
                "These couplings depend on the layer's input x: take layer.couplings_of(x)."
            )
        return self._couplings(None, self.structure.context)

    def _couplings(self, x: Tensor | None, size: int) -> Tensor | Couplings:
        values = {name: at_least_single(getattr(self, name)) for name in self._coupling_names}
        x = at_least_single(x) if x is not None and self.structure.content else None
        return self.structure.couplings(values, x, size)

    def _kept_inputs(self, x: Tensor) -> tuple[Tensor, ...]:
        return (x,) if self.structure.content else ()

    def couplings_of(self, x: Float[Tensor, "batch positions embed"]) -> Tensor | Couplings:
        """The couplings on x: of each head, or of each sequence and head if they depend on x."""
        with without_autocast(x.device):
            return self._couplings(x, x.shape[1])

    def _is_traceable(self) -> bool:
        return (self._backend, self.estimator, self.moments) == ("exact", None, "exact")
