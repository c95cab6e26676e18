"""Results as trainings would have left them, made up with a fixed seed."""

import numpy as np

from qattn.experiments import MissingTraining, Results, TrainingResult

T = 6
VERSIONS = {"qattn": "0.1.0", "torch": "2.13.0", "CPU": "a processor, 1 threads of PyTorch"}


def made_up(figures=(), parts=None, arms=("softmax", "boltzmann"), points=({},), seeds=4, **table):
    """Results of every arm at every point of the parts, with all measures, in a settled order."""
    chance = np.random.default_rng(0)
    names = [""] if parts is None else list(parts)
    definition = {
        "title": "An experiment",
        "paper": "What theirs shows.",
        "figures": list(figures),
        "arms": {arm: {"attention": arm.split(",")[0]} for arm in arms},
    } | table
    if parts is not None:
        definition["parts"] = [{"name": name} for name in names]
    trainings = [
        trained(part, arm, point, seeds, chance)
        for part in names
        for point in points
        for arm in arms
    ]
    return Results("made-up", definition, trainings)


def trained(part, arm, point, seeds, chance):
    perplexity = (6 + chance.normal(0, 0.05, (3, seeds))).tolist()
    loss = np.log(perplexity).tolist()
    settings = {"attention": arm.split(",")[0], "task": "shakespeare", "steps": 20} | point
    curves = {"step": [0, 10, 20], "validation_loss": loss, "perplexity": perplexity}
    if settings.get("sampler", "exact") != "exact":
        curves["gradient_step"] = [10, 20]
        curves["gradient_error"] = chance.uniform(0.1, 0.3, (2, seeds)).tolist()
    by_distance = chance.normal(0, 0.1, (seeds, T - 1)).tolist()
    shares = chance.dirichlet([5, 1, 2], (seeds, T)).tolist()
    for member in shares:
        member[0] = [None] * 3  # nothing closes at the first position
    measures = {
        "couplings": {
            "by_distance": by_distance,
            "by_distance_at_start": chance.normal(0, 0.02, (seeds, T - 1)).tolist(),
            "map": chance.normal(0, 0.1, (2, T, T)).tolist(),
        },
        "outputs": {
            "classes": ["right", "wrong", "opening"],
            "distances": [1, 3, 5],
            "by_position": shares,
            "by_distance": chance.dirichlet([5, 1, 2], (seeds, T // 2)).tolist(),
            "language": {"by_position": shares[0], "by_distance": [[0.6, 0.0, 0.4]] * 3},
            "example": {
                "word": list("([{}])"),
                "symbols": [*list("()[]{}"), "^"],
                "distribution": chance.dirichlet([1] * 7, T).tolist(),
            },
        },
    }
    return TrainingResult(
        part, arm, point, settings, list(range(seeds)), 20, 1000, 60.0,
        {"validation_loss": loss[-1], "perplexity": perplexity[-1]}, curves, measures,
        {"started": "2026-11-01T10:00:00+00:00", "versions": VERSIONS},
    )  # fmt: skip


def without(results, arm, steps_done=7, seconds_needed=120.0):
    """The same with the trainings of an arm not finished."""
    gone = [t for t in results.trainings if t.arm == arm]
    missing = [
        MissingTraining(t.part, arm, t.point, t.seeds, t.steps, steps_done, seconds_needed)
        for t in gone
    ]
    kept = [t for t in results.trainings if t.arm != arm]
    return Results(results.experiment, results.definition, kept, missing)
