"""The house: who may import whom, how full a shelf may be, and how long a file."""

import statistics

from _support.structure import Sources

LAYERS = [
    {
        "qattn._atomic",
        "qattn._clock",
        "qattn._lazy",
        "qattn._version",
        "qattn._tracing",
        "qattn._vmap",
    },
    {"qattn.couplings", "qattn.ising", "qattn.field_encoding", "qattn.calibration_file"},
    {"qattn.kernels"},
    {"qattn.exact", "qattn.pseudolikelihood"},
    {"qattn.mean_field"},
    {"qattn.chains"},
    {"qattn.backends"},
    {"qattn.estimators"},
    {"qattn.thermodynamics", "qattn.spin_models"},
    {"qattn.attention", "qattn.layers", "qattn.transformer", "qattn.weights", "qattn.testing"},
    {"qattn.problems", "qattn.quality"},
    {"qattn.simulators"},
    {"qattn.hardware"},
    {"qattn.training", "qattn.problems.run", "qattn.fitting", "qattn.integrations"},
    {"qattn.compare"},
    {"qattn.thermo_report", "qattn.spin_glass", "qattn.show"},
    {"qattn.experiments"},
    {"qattn.cli", "qattn.__main__"},
]
"""From the ground up: a module imports from its own layer and from those below it."""

UPWARD = {("qattn.problems.by_name", "qattn.problems.run")}
"""Imports in a function that go up: the problems of a run need what trained it."""

MATHEMATICS = set().union(*LAYERS[1:10])

SOURCES = Sources()


def layer_of(module):
    """Index of the layer whose longest name the module's begins with."""
    names = [
        (len(name), index)
        for index, layer in enumerate(LAYERS)
        for name in layer
        if f"{module}.".startswith(f"{name}.")
    ]
    assert names, f"{module} is in no layer: add it to LAYERS"
    return max(names)[1]


def upward(imports):
    return {
        (module, other)
        for module, others in imports.items()
        for other in others
        if layer_of(module) < layer_of(other)
    }


def inner(imports):
    """Without the package itself, which passes on names of every layer."""
    return {m: others - {"qattn"} for m, others in imports.items() if m != "qattn"}


def test_nothing_imports_upward():
    assert upward(inner(SOURCES.imports)) == UPWARD
    wrong = {"qattn.exact.dense.reads": {"qattn.training.loop"}}
    assert upward(wrong) == {("qattn.exact.dense.reads", "qattn.training.loop")}


def test_mathematics_knows_no_device_and_no_simulator():
    for module, others in inner(SOURCES.imports).items():
        if any(f"{module}.".startswith(f"{name}.") for name in MATHEMATICS):
            assert not any(o.startswith(("qattn.hardware", "qattn.simulators")) for o in others)


def test_no_modules_import_each_other():
    assert SOURCES.cycles(inner(SOURCES.at_run_time)) == []
    assert SOURCES.cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_shelves_and_files_stay_small():
    assert max(SOURCES.shelves().values()) <= 12
    lines = SOURCES.lines()
    assert max(lines.values()) <= 350
    assert statistics.median(lines.values()) <= 130
