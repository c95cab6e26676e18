"""A trained run as a model that anybody can use."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from qattn.layers import BoltzmannAttention
from qattn.training.config import TrainConfig
from qattn.training.folder import RunFolder
from qattn.training.tasks import Task
from qattn.transformer import Transformer
from qattn.weights import WEIGHTS, unchanged_chance


class TrainedRun(NamedTuple):
    """What :func:`load` returns.

    Attributes:
        model: The model with the weights of the run's last checkpoint, on the CPU, in evaluation
            mode; its layers with couplings take exact moments (``layer.backend``), or those of the
            run's mean-field method where J cannot be enumerated (``layer.moments``).
        task: The task that it was trained on.
    """

    model: Transformer
    task: Task


def load(folder: str | Path, *, member: int = 0, data: str | Path | None = None) -> TrainedRun:
    """Model and task of a run, finished or not, without what trained it.

    Neither the run's sampler nor its device, calibration or journal is needed, so that a model
    which was trained with a QPU on a GPU can be used on a laptop. Of a finished run ``config.toml``
    and the weights (``model.safetensors``, or those of the member) are enough; where there is a
    checkpoint, it is read.

    Args:
        folder: The run's folder.
        member: Which seed of an ensemble, from 0 on.
        data: The text of the task, where it is no longer where the run had it.

    Raises:
        FileNotFoundError: The folder is not one of a run, it has neither a checkpoint nor weights,
            or the task's text is missing.
        ValueError: There is no such member, or a file is damaged.

    Example:
        >>> model, task = qattn.load("runs/ten-seeds", member=3)  # doctest: +SKIP
        >>> tokens, _ = task.validation()  # doctest: +SKIP
        >>> weights = model.attention_weights(tokens[:1])  # doctest: +SKIP
    """
    if Path(folder).is_file():
        raise ValueError(
            f"'{folder}' is a file and no run's folder: weights are read by "
            f"qattn.Transformer.load, and by load of the layers."
        )
    run = RunFolder(Path(folder))
    state = run.read_checkpoint()
    config = run.trained_config(state)
    if not 0 <= member < config.ensemble:
        raise ValueError(
            f"Argument `member` must be between 0 and {config.ensemble - 1}, the members of the "
            f"run in {folder}, but is {member}."
        )
    weights = weights_file(run.path, config, member)
    if state is None and not weights.is_file():
        raise FileNotFoundError(f"The run in {folder} has no checkpoint yet.")
    task = config.make_task(config.seed + member, None if data is None else Path(data))
    if state is None:
        model = Transformer.load(weights)
    else:
        model = _model(config, state["learner"]["parameters"], member)
    if (known := model.tokens.num_embeddings) != task.vocab_size:
        raise ValueError(
            f"The run in {folder} has a vocabulary of {known} tokens, but its text now one of "
            f"{task.vocab_size}: give the text that it was trained on, with --data or data=."
        )
    return TrainedRun(model, task)


def save_weights(folder: Path, config: TrainConfig, parameters: Mapping[str, Tensor]) -> None:
    """Write the weights of each member as :meth:`qattn.Transformer.save` does.

    Args:
        folder: The run's folder.
        config: The settings.
        parameters: By name, of an ensemble stacked.
    """
    for member in range(config.ensemble):
        _model(config, parameters, member).save(weights_file(folder, config, member))


def weights_file(folder: Path, config: TrainConfig, member: int) -> Path:
    """Where a finished run has the weights of a member."""
    name = WEIGHTS if config.ensemble == 1 else WEIGHTS.replace(".", f"-{member}.")
    return folder / name


def _model(config: TrainConfig, parameters: Mapping[str, Tensor], member: int) -> Transformer:
    """A member's model, with exact moments or those of the run's mean-field method."""
    if config.ensemble > 1:
        parameters = {name: stacked[member] for name, stacked in parameters.items()}
    with unchanged_chance():
        model = config.model(len(parameters["tokens.weight"]))
    model.load_state_dict({k: v.detach().cpu() for k, v in parameters.items()}, assign=True)
    for layer in model.modules():
        if isinstance(layer, BoltzmannAttention):
            layer.moments = config.eval_moments
    return model.eval()
