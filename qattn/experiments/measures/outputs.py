"""What models of the task brackets expect where a bracket closes."""

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from qattn.experiments.measures.members import compact, members
from qattn.training.config import TrainConfig
from qattn.training.folder import RunFolder
from qattn.training.learner import EVALUATION_BATCH
from qattn.training.tasks import Brackets

CLASSES = ["right", "wrong", "opening"]
"""Closing with the type that is due, closing with another type, and opening."""


@torch.no_grad()
def outputs(config: TrainConfig, run: RunFolder) -> dict[str, Any]:
    """Mean output distribution at the closing brackets of the validation words.

    Which type closes is always determined; that a bracket closes here is not. What a perfect model
    of the language would answer therefore stands beside, as ``language``.

    Args:
        config: Settings of the run.
        run: Its folder.

    Returns:
        With the probabilities of ``classes``: the closing type that is due, the other closing
        types, opening; None where no bracket closes:

        - ``by_position``: [member][position][class];
        - ``by_distance``: by the ``distances`` to the partner, [member][distance][class];
        - ``language``: the same two of the language itself, on the words of all members;
        - ``example``: a ``word`` of brackets that open one after the other, then close, and the
          whole ``distribution`` over ``symbols`` at each of its positions, averaged over members,
          [position][symbol].

    Raises:
        ValueError: The task is not brackets.
    """
    if config.task != "brackets":
        raise ValueError(
            f"Measure `outputs` must be taken of the task brackets, but the task is {config.task}."
        )
    T, models, languages, examples = config.context, [], [], []
    for model, task in members(config, run):
        assert isinstance(task, Brackets)
        inputs, words = task.validation()
        answers = torch.cat([model(x).softmax(-1) for x in inputs.split(EVALUATION_BATCH)])
        models.append(by_place(classified(answers, words, task.num_types), words))
        languages.append(by_place(of_language(words), words))
        example, nested = task.example(nested_word(T, task.num_types))
        examples.append(model(example)[0].softmax(-1))
    by_position, by_distance = (torch.stack(each) for each in zip(*models, strict=True))
    means = [torch.stack(each).nanmean(0) for each in zip(*languages, strict=True)]
    return {
        "classes": CLASSES,
        "distances": list(range(1, T, 2)),
        "by_position": compact(by_position),
        "by_distance": compact(by_distance),
        "language": {"by_position": compact(means[0]), "by_distance": compact(means[1])},
        "example": {
            "word": task.token_names(nested[0]),
            "symbols": task.token_names(torch.arange(task.vocab_size)),
            "distribution": compact(torch.stack(examples).mean(0)),
        },
    }


def classified(
    answers: Float[Tensor, "words T vocab"], words: Int[Tensor, "words T"], num_types: int
) -> Float[Tensor, "words T 3"]:
    """Probabilities of :data:`CLASSES`, right where a bracket closes."""
    right = answers.gather(2, words.unsqueeze(2)).squeeze(2)
    closing = answers[..., 1 : 2 * num_types : 2].sum(2)
    opening = answers[..., 0 : 2 * num_types : 2].sum(2)
    return torch.stack([right, closing - right, opening], 2)


def of_language(words: Int[Tensor, "words T"]) -> Float[Tensor, "words T 3"]:
    r"""Probabilities of :data:`CLASSES` in words that are uniform over all Dyck words.

    With d brackets open and r places left the next one opens with probability
    :math:`(d + 2)(r - d) / (2 r (d + 1))`, see :func:`qattn.training.tasks.brackets.dyck_words`.
    """
    steps = torch.where(words % 2 == 0, 1, -1)
    depth = steps.cumsum(1) - steps
    left = torch.arange(words.shape[1], 0, -1)
    opening = (depth + 2) * (left - depth) / (2 * left * (depth + 1))
    return torch.stack([1 - opening, torch.zeros_like(opening), opening], 2)


def by_place(
    probabilities: Float[Tensor, "words T 3"], words: Int[Tensor, "words T"]
) -> tuple[Float[Tensor, "T 3"], Float[Tensor, "half 3"]]:
    """Means over the closing brackets at each position, and at each distance to the partner."""
    T, closes = words.shape[1], words % 2 == 1
    position = torch.arange(T).expand_as(words)
    distance = position - partners(words)  # odd
    chosen = probabilities[closes]
    return (
        grouped_means(chosen, position[closes], T),
        grouped_means(chosen, distance[closes] // 2, T // 2),
    )


def partners(words: Int[Tensor, "words T"]) -> Int[Tensor, "words T"]:
    """Position of the bracket that each closing one closes; -1 for those that open."""
    opens = words % 2 == 0
    steps = torch.where(opens, 1, -1)
    level = torch.where(opens, steps.cumsum(1), steps.cumsum(1) + 1)
    # The last one before it that opened to the level that it closes.
    same = opens.unsqueeze(1) & (level.unsqueeze(1) == level.unsqueeze(2))
    places = torch.arange(words.shape[1])
    earlier = same & (places < places[:, None])
    return torch.where(earlier, places, -1).amax(2).masked_fill(opens, -1)


def grouped_means(
    values: Float[Tensor, "many 3"], group: Int[Tensor, " many"], number: int
) -> Float[Tensor, "number 3"]:
    """Mean of the values of each group 0 … number - 1; nan for an empty one."""
    sums = values.new_zeros(number, values.shape[1]).index_add(0, group, values)
    return sums / group.bincount(minlength=number).unsqueeze(1)


def nested_word(length: int, num_types: int) -> NDArray[np.int64]:
    """The word whose brackets open one after the other, of each type in turn, and then close."""
    types = np.arange(length // 2) % num_types
    return np.concatenate([2 * types, 2 * types[::-1] + 1])[None]
