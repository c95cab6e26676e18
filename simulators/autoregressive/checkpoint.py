"""Fitted samplers as files: what they are made of, for which couplings, and how good they are."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qattn._atomic import write_atomically
from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive.build import build_net
from qattn.simulators.autoregressive.net import AutoregressiveNet
from qattn.simulators.autoregressive.plan import Plan
from qattn.simulators.autoregressive.settings import NetSettings

FILE = "sampler.pt"
"""The file of a fitted sampler in a run's folder."""

FORMAT = 1
"""Version of the file."""


@dataclass(frozen=True, eq=False)
class FittedSampler:
    """A sampler that was fitted, to the couplings of one problem or to a family of problems.

    Attributes:
        settings: What its net is made of.
        state: The net's parameters by name.
        betas: Inverse temperatures at which it was fitted, ascending; others are drawn as well, at
            a lower ESS.
        couplings: :func:`couplings_hash` of the problem; None of a family: then any.
        plan: The order of drawing; None of a family: each graph gets its own.
        figures: What was measured at the end of the fit: free energies, ESS, the reference.
        folder: Where it came from.
    """

    settings: NetSettings
    state: Mapping[str, Tensor]
    betas: tuple[float, ...]
    couplings: str | None = None
    plan: Plan | None = None
    figures: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    def check(self, batch: IsingBatch) -> None:
        """Check that it is a sampler of these models; fields and β may be others.

        Raises:
            ValueError: The couplings are not those that it was fitted to.
        """
        if self.couplings is None:
            return
        J = batch.dense().matrix
        other = [g for g in range(len(J)) if g == 0 or not torch.equal(J[g], J[0])]
        wrong = [g for g in other if couplings_hash(J[g]) != self.couplings]
        if wrong:
            raise ValueError(
                f"Argument `checkpoint` must be a sampler of the batch's couplings J, but "
                f"'{self.folder}' was fitted to others than those of group {wrong[0]} (β apart, "
                f"which belongs into `beta` and not into J). Fit one to this problem, `qattn "
                f"fit-sampler PROBLEM --out DIR`, take one of a family, `--family`, or leave the "
                f"checkpoint out: the untrained sampler draws any couplings."
            )

    def net_for(self, batch: IsingBatch) -> AutoregressiveNet:
        """The net for a batch, on its device; of a family, for the graph of its couplings.

        Raises:
            ValueError: See :meth:`check`, or the file is of another version's net.
        """
        self.check(batch)
        net = build_net(self.settings, batch, self.plan).to(batch.h.device)
        load_parameters(net, self.state, f"'{self.folder}'")
        return net.requires_grad_(False).eval()


def parameters_of(net: AutoregressiveNet) -> dict[str, Tensor]:
    """The parameters of a net by name, copied to the CPU."""
    return {name: p.detach().cpu().clone() for name, p in net.named_parameters()}


@torch.no_grad()
def load_parameters(net: AutoregressiveNet, state: Mapping[str, Tensor], source: str) -> None:
    """Give a net the parameters of :func:`parameters_of`.

    Raises:
        ValueError: They are those of another net.
    """
    own = dict(net.named_parameters())
    shapes = {name: tuple(p.shape) for name, p in own.items()}
    if shapes != {name: tuple(p.shape) for name, p in state.items()}:
        odd = sorted(
            name
            for name in shapes.keys() | state.keys()
            if name not in own or name not in state or own[name].shape != state[name].shape
        )
        raise ValueError(
            f"{source} must hold the parameters of a net with these settings, but "
            f"{', '.join(odd[:3])} is missing or has another shape: fit it anew."
        )
    for name, p in own.items():
        p.copy_(state[name])


def couplings_hash(J: Tensor) -> str:
    """What the couplings of one model, without β, are known by: those of float32 in hexadecimal.

    >>> J = torch.tensor([[0.0, 0.3], [0.3, 0.0]], dtype=torch.float64)
    >>> couplings_hash(J) == couplings_hash(J.float())
    True
    """
    values = (J.detach().cpu().to(torch.float32) + 0.0).contiguous()  # -0 becomes 0
    digest = hashlib.sha256(str(tuple(values.shape)).encode())
    digest.update(values.numpy().tobytes())
    return digest.hexdigest()[:32]


def save_sampler(folder: Path, sampler: FittedSampler) -> None:
    """Write the file of a sampler into a folder that exists; it is whole at any moment."""
    content = io.BytesIO()
    torch.save(
        {
            "format": FORMAT,
            "settings": asdict(sampler.settings),
            "state": dict(sampler.state),
            "betas": list(sampler.betas),
            "couplings": sampler.couplings,
            "plan": None if sampler.plan is None else _plan_as_values(sampler.plan),
            "figures": dict(sampler.figures),
        },
        content,
    )
    write_atomically(folder / FILE, content.getvalue())


def load_sampler(folder: str | Path) -> FittedSampler:
    """The sampler of a folder.

    Raises:
        FileNotFoundError: There is none.
        ValueError: The file cannot be read, or is of another version.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        raise FileNotFoundError(
            f"No fitted sampler in '{folder}': it has no {FILE}, which `qattn fit-sampler --out "
            f"DIR` writes."
        )
    try:
        values = torch.load(io.BytesIO(file.read_bytes()), map_location="cpu", weights_only=True)
        if values["format"] != FORMAT:
            raise ValueError(f"it has format {values['format']}, and this version reads {FORMAT}")
        plan = None if values["plan"] is None else _plan_of_values(values["plan"])
        return FittedSampler(
            NetSettings(**values["settings"]),
            values["state"],
            tuple(values["betas"]),
            values["couplings"],
            plan,
            values["figures"],
            Path(folder),
        )
    except Exception as error:  # the unpickler's, the archive's, or a key that is not there
        reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
        raise ValueError(f"Cannot read the sampler '{file}': {reason}. Fit it anew.") from None


def _plan_as_values(plan: Plan) -> dict[str, Any]:
    """The fields of a plan; levels as pairs of numbers."""
    values = {f.name: getattr(plan, f.name) for f in fields(plan)}
    return values | {"levels": [(level.start, level.stop) for level in plan.levels]}


def _plan_of_values(values: dict[str, Any]) -> Plan:
    levels = tuple(slice(start, stop) for start, stop in values["levels"])
    return Plan(**(values | {"levels": levels}))
