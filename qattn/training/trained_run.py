"""A trained run as a model that anybody can use."""

from pathlib import Path
from typing import NamedTuple

from qattn.layers import BoltzmannAttention
from qattn.training.folder import RunFolder
from qattn.training.tasks import Task, make_task
from qattn.transformer import Transformer


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
    which was trained with a QPU on a GPU can be used on a laptop.

    Args:
        folder: The run's folder.
        member: Which seed of an ensemble, from 0 on.
        data: The text of the task shakespeare, where it is no longer where the run had it.

    Raises:
        FileNotFoundError: The folder is not one of a run, it has no checkpoint, or the task's
            text is missing.
        ValueError: There is no such member.

    Example:
        >>> model, task = qattn.load("runs/ten-seeds", member=3)  # doctest: +SKIP
        >>> tokens, _ = task.validation()  # doctest: +SKIP
        >>> weights = model.attention_weights(tokens[:1])  # doctest: +SKIP
    """
    run = RunFolder(Path(folder))
    state = run.read_checkpoint()
    config = run.trained_config(state)
    if state is None:
        raise FileNotFoundError(f"The run in {folder} has no checkpoint yet.")
    if not 0 <= member < config.ensemble:
        raise ValueError(
            f"Argument `member` must be between 0 and {config.ensemble - 1}, the members of the "
            f"run in {folder}, but is {member}."
        )
    text = config.data_path if data is None else Path(data)
    task = make_task(config.task, config.context, config.seed + member, text)
    model = config.model(task.vocab_size)
    parameters = state["learner"]["parameters"]
    if config.ensemble > 1:
        parameters = {name: stacked[member] for name, stacked in parameters.items()}
    model.load_state_dict(parameters, strict=False)  # buffers are not trained
    for layer in model.modules():
        if isinstance(layer, BoltzmannAttention):
            layer.moments = config.eval_moments
    return TrainedRun(model.eval(), task)
