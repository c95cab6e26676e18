r"""Sets of Ising problems to judge samplers on, also by name.

A name is a set and its options, ``sk:spins=10,beta=0.5``; every set takes ``problems`` (how many),
``beta`` and ``seed``:

=============== ============================================= ===========================
set             what it is                                    options
=============== ============================================= ===========================
``synthetic``   attention-like, Gaussian fields and couplings spins, field_sd, coupling_sd
``ferromagnet`` all coupled alike, in random fields           spins, coupling, field_sd
``sk``          Sherrington and Kirkpatrick's spin glass      spins, field_sd
``ring``        frustrated ring                               spins, coupling, field_sd
``planted``     frustrated loops around a known ground state  spins, coupling, loops_per_spin
``run:DIR``     queries of a trained run                      problems, beta, seed only
``file:PATH``   BQMs in dimod's serializations                beta only
=============== ============================================= ===========================
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from qattn.bqm_files import from_bqms, read_bqms
from qattn.ising import IsingBatch
from qattn.layers import BoltzmannAttention
from qattn.standard_problems import ferromagnet, frustrated_ring, planted, spin_glass
from qattn.training.folder import RunFolder
from qattn.training.learner import Learner

N = TypeVar("N", int, float)

QUERIES_PER_GROUP = 10
"""Synthetic problems that share one J."""


def synthetic(
    num_problems: int = 40,
    num_spins: int = 8,
    *,
    field_sd: float = 1.0,
    coupling_sd: float = 0.3,
    seed: int = 0,
) -> IsingBatch:
    r"""Attention-like problems: h_j ~ N(0, field_sd²), J_jk ~ N(0, coupling_sd²), float64.

    Ten problems share a J. The number of problems is rounded up to a multiple of that.

    Raises:
        ValueError: A number is not positive.
    """
    for name, value in (("num_problems", num_problems), ("num_spins", num_spins)):
        if value < 1:
            raise ValueError(f"Argument `{name}` must be positive, but is {value}.")
    for name, sd in (("field_sd", field_sd), ("coupling_sd", coupling_sd)):
        if not 0 <= sd < float("inf"):
            raise ValueError(f"Argument `{name}` must not be negative, but is {sd}.")
    generator = torch.Generator().manual_seed(seed)
    groups, n = -(-num_problems // QUERIES_PER_GROUP), num_spins
    shape = (groups, min(num_problems, QUERIES_PER_GROUP), n)
    h = field_sd * torch.randn(shape, generator=generator, dtype=torch.float64)
    J = coupling_sd * torch.randn(groups, n, n, generator=generator, dtype=torch.float64)
    return IsingBatch(h, J.triu(1) + J.triu(1).mT)


@torch.no_grad()
def from_run(folder: Path, num_problems: int, *, seed: int = 0) -> IsingBatch:
    """Queries of a trained run on its validation set, from all layers and heads, float64.

    Every head of every layer gives the same number of queries, at least one, at random positions
    of random validation sequences.

    Raises:
        FileNotFoundError: The folder is not one of a run, or it has no checkpoint.
        ValueError: The run's attention has no couplings.
    """
    run = RunFolder(folder)
    learner = Learner(run.read_config())
    state = run.read_checkpoint()
    if state is None:
        raise FileNotFoundError(f"The run in {folder} has no checkpoint yet.")
    learner.load_state_dict(state["learner"])
    model = learner.first_member()
    layers = [layer for layer in model.modules() if isinstance(layer, BoltzmannAttention)]
    if not layers:
        raise ValueError(f"The run in {folder} has {learner.config.attention} attention: no J.")
    heads = sum(layer.num_heads for layer in layers)
    queries = max(1, num_problems // heads)
    generator = torch.Generator().manual_seed(seed)
    words, _ = learner.tasks[0].validation()
    words = words[torch.randint(len(words), (queries,), generator=generator)]
    batches = model.ising_batches(words.to(learner.device))
    h, J, lengths = [], [], []
    for batch in batches:
        chosen = torch.randint(batch.num_queries, (queries,), generator=generator)
        h.append(batch.h[:, chosen].cpu().double())
        J.append(batch.J.cpu().double())
        active = torch.from_numpy(batch.num_active.copy())
        lengths.append(active[:, chosen])
    return IsingBatch(torch.cat(h), torch.cat(J), torch.cat(lengths), batches[0].beta)


SETS: dict[str, Callable[..., IsingBatch]] = {
    "synthetic": synthetic,
    "ferromagnet": ferromagnet,
    "sk": spin_glass,
    "ring": frustrated_ring,
    "planted": planted,
}
"""Generated sets by name."""

RUN_PROBLEMS = 40
"""Queries of a run unless ``problems`` says otherwise."""


def named(name: str, *, seed: int = 0) -> IsingBatch:
    """The problems of a name such as ``sk:spins=10,beta=0.5``, ``run:DIR`` or ``file:PATH``.

    Args:
        name: See this module's docstring.
        seed: Seed of the problems, unless the name has one.

    Raises:
        ValueError: There is no such set or option, or a value is wrong.
        FileNotFoundError: There is no such run or file.
    """
    kind, _, rest = name.partition(":")
    source = ""
    if kind in ("run", "file"):
        source, _, rest = rest.partition(",")
        if not source:
            raise ValueError(f"Argument `problems` must be {kind}:PATH, but is {name!r}.")
    options = _options(name, rest)
    beta = _number(float, "beta", options.pop("beta", "1"), name)
    if kind == "file":
        _refuse(name, options, ["beta"])
        return from_bqms(read_bqms(source), beta)
    seed = _number(int, "seed", options.pop("seed", str(seed)), name)
    if kind == "run":
        many = options.pop("problems", str(RUN_PROBLEMS))
        _refuse(name, options, ["problems", "beta", "seed"])
        return with_strength(
            from_run(Path(source), _number(int, "problems", many, name), seed=seed), beta
        )
    if kind not in SETS:
        raise ValueError(
            f"Argument `problems` must start with one of {', '.join(SETS)}, run:DIR or file:PATH, "
            f"but is {name!r}."
        )
    kinds = {
        p.name.removeprefix("num_"): p.annotation
        for p in inspect.signature(SETS[kind]).parameters.values()
        if p.name != "seed"
    }
    _refuse(name, {k: v for k, v in options.items() if k not in kinds}, [*kinds, "beta", "seed"])
    given = {
        f"num_{key}" if kinds[key] is int else key: _number(kinds[key], key, value, name)
        for key, value in options.items()
    }
    return with_strength(SETS[kind](seed=seed, **given), beta)


def with_strength(batch: IsingBatch, strength: float) -> IsingBatch:
    """The same problems at `strength` times their β: fields and couplings that much stronger."""
    return batch if strength == 1.0 else replace(batch, beta=batch.beta * strength, validate=True)


def _number(kind: type[N], key: str, value: str, name: str) -> N:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(
            f"Option {key!r} of problems {name!r} must be a number, but is {value!r}."
        ) from None


def _options(name: str, text: str) -> dict[str, str]:
    options = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(
                f"Options of problems {name!r} must be key=value, but one is {part!r}."
            )
        options[key.strip()] = value.strip()
    return options


def _refuse(name: str, unknown: dict[str, str], known: list[str]) -> None:
    if unknown:
        raise ValueError(
            f"Problems {name!r} have no option {', '.join(map(repr, unknown))}; "
            f"the options are {', '.join(known)}."
        )
