"""A backend declares its options once: constructor, registry, texts and docs derive from that."""

import inspect
import subprocess
import sys
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from qattn import exact
from qattn.backends import (
    Backend,
    ExactBackend,
    Option,
    get_backend,
    option,
    options_of,
    parse_sampler,
    register_backend,
    registry,
)
from qattn.backends.options import check_words
from qattn.hardware.dwave import DWaveBackend
from qattn.simulators.diabatic import DiabaticBackend
from qattn.simulators.neal import NealBackend
from qattn.simulators.schedules import get_schedule

OURS = ("exact", "gibbs", "neal", "autoregressive", "diabatic", "qutip", "dwave", "replay")
DOCS = Path(__file__).parents[2] / "docs"


class Declared(Backend):
    """Exact reads, for tests.

    Not for use.
    """

    @dataclass(frozen=True)
    class Options(Backend.Options):
        """One of each type."""

        flips: int = option(1, "Number of flips.")
        file: str | Path | None = option(None, "Where they are kept.", may_change=True)
        scale: float = option(0.5, "Scale of a flip.")
        betas: tuple[float, float] | None = option(None, "Two numbers.")
        fast: bool = option(False, "Whether to hurry.")
        rounds: int | Literal["auto"] = option("auto", "Number of rounds.")
        hook: Any = option(None, "A function.", python_only=True)

        def __post_init__(self):
            if self.flips < 1:
                raise ValueError(f"Argument `flips` must be positive, but is {self.flips}.")

    options: Options

    def sample(self, batch, *, num_reads, seed=None):
        return exact.sample(batch, num_reads, seed)


class OwnConstructor(Declared):
    """A subclass of one with options that takes its own arguments."""

    def __init__(self, *, coins: int = 2, labels=None):
        super().__init__(flips=coins)


def with_any(*, known: int = 1, **others):
    return Declared()


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    ours = {"declared": Declared, "own": OwnConstructor, "any": with_any}
    monkeypatch.setattr(registry, "_registered", ours)


def test_constructor_takes_the_declared_options():
    backend = Declared(3, scale=2.0)
    assert (backend.options.flips, backend.options.scale) == (3, 2.0)
    assert inspect.signature(Declared) == inspect.signature(Declared.Options)
    assert "Number of flips." in inspect.getdoc(Declared)
    assert inspect.getdoc(Declared).startswith("Exact reads, for tests.\n\nNot for use.\n\nArgs:")
    with pytest.raises(ValueError, match="`flips` must be positive, but is 0"):
        Declared(flips=0)
    with pytest.raises(TypeError, match="'flip'"):
        Declared(flip=3)


def test_options_of_declared_ones():
    assert options_of("declared") == options_of(Declared)
    assert options_of("declared")["file"] == Option(
        "file", str | None, None, "Where they are kept.", may_change=True
    )
    assert list(options_of("declared")) == [
        *("flips", "file", "scale", "betas", "fast", "rounds", "hook"),
        "refine_sweeps",
    ]


def test_options_of_a_plain_constructor():
    assert list(options_of(OwnConstructor)) == ["coins", "labels", "refine_sweeps"]
    assert options_of("own")["coins"] == Option("coins", int, 2)
    assert options_of("own")["labels"].type is Any
    assert get_backend("own", coins=4).options.flips == 4
    with pytest.raises(ValueError, match="has no option 'flips'"):
        get_backend("own", flips=4)
    assert list(inspect.signature(OwnConstructor).parameters) == ["coins", "labels"]
    assert list(options_of(ExactBackend)) == ["refine_sweeps"]


def test_a_factory_may_take_every_option():
    assert isinstance(get_backend("any", whatever=1), Declared)
    assert parse_sampler("any:whatever=1/2").options == {"whatever": (1.0, 2.0)}


@pytest.mark.parametrize("name", OURS)
def test_every_backend_refuses_a_wrong_option_with_the_nearest_name(name):
    for known in options_of(name):
        wrong = known[:2] + known[3:]
        expected = f"Backend '{name}' has no option '{wrong}': did you mean '{known}'? Its options"
        for build in (
            lambda wrong=wrong: get_backend(name, **{wrong: 1}),
            lambda wrong=wrong: parse_sampler(f"{name}:{wrong}=1"),
        ):
            with pytest.raises(ValueError, match="has no option") as error:
                build()
            assert str(error.value).startswith(expected)
    with pytest.raises(ValueError, match="has no option 'zzz': its options are '"):
        get_backend(name, zzz=1)


@pytest.mark.parametrize("name", OURS)
def test_every_option_of_ours_has_a_help_text_and_a_plain_type(name):
    plain = {str, int, float, bool, str | None, float | None, tuple[float, float] | None}
    plain |= {int | Literal["auto"]}
    for known in options_of(name).values():
        assert known.help.endswith("."), known
        is_word = typing.get_origin(known.type) is Literal
        assert known.python_only or is_word or known.type in plain, known


def test_an_option_may_be_one_of_some_words():
    assert parse_sampler("autoregressive:anneal=auto").options == {"anneal": "auto"}
    with pytest.raises(ValueError, match="must be 'never' or 'auto' or 'always', but is 'some'"):
        parse_sampler("autoregressive:anneal=some").build()

    @dataclass(frozen=True)
    class Options:
        kind: Literal["a", "b"] = "a"
        number: int | Literal["auto"] = 3

    check_words(Options("b"))
    with pytest.raises(ValueError, match="Argument `kind` must be 'a' or 'b', but is 'c'"):
        check_words(Options("c"))


def test_values_in_texts_are_of_the_options_types():
    text = "declared:flips=4,file=007,scale=2,betas=1/2.5,fast=true"
    expected = {"flips": 4, "file": "007", "scale": 2.0, "betas": (1.0, 2.5), "fast": True}
    options = parse_sampler(text).options
    assert options == expected
    assert [type(value) for value in options.values()] == [int, str, float, tuple, bool]
    assert parse_sampler(text).build().options == Declared.Options(**expected)
    for value in (7, "auto"):
        assert parse_sampler(f"declared:rounds={value}").options == {"rounds": value}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("declared:flips=many", "`flips` must be of type int, but is 'many'"),
        ("declared:flips=true", "`flips` must be of type int, but is 'true'"),
        ("declared:fast=1", "`fast` must be of type bool, but is '1'"),
        ("declared:betas=1", r"`betas` must be of type tuple\[float, float\] \| None, but is '1'"),
        ("declared:rounds=many", "`rounds` must be of type int or 'auto', but is 'many'"),
        ("declared:rounds=1.5", "`rounds` must be of type int or 'auto', but is '1.5'"),
        ("declared:hook=1", "`hook` can be given in Python only"),
        ("declared,own", "`sampler` must name one sampler, but names 2"),
        ("", "`sampler` must name a sampler, but is empty"),
        ("deklared", "did you mean 'declared'"),
    ],
)
def test_wrong_texts_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_sampler(text).build()


def test_options_construct_nothing(tmp_path):
    """Files are read where a backend is built (a simulator) or opened (a QPU)."""
    options = DiabaticBackend.Options(schedule="none.csv", calibration=tmp_path / "none.toml")
    assert options.annealing_time is None
    with pytest.raises(FileNotFoundError):
        get_backend("diabatic", calibration=tmp_path / "none.toml")
    DWaveBackend(calibration=tmp_path / "none.toml")
    with pytest.raises(ValueError, match="`field_encoding` must be"):
        DiabaticBackend.Options(field_encoding="both")
    with pytest.raises(ValueError, match="`betas` must be two positive"):
        DWaveBackend.Options(betas=(1.0, 0.0), annealing_time=5.0)


def test_schedules_may_be_objects_and_stand_first():
    schedule = get_schedule("quadratic", 2.0)
    assert DiabaticBackend(schedule).schedule.name == "quadratic"
    assert DiabaticBackend("linear", 3.0).schedule.annealing_time == 3.0
    register_backend("neal", NealBackend)
    assert get_backend("neal", num_sweeps=3).options == NealBackend.Options(num_sweeps=3)


def test_options_of_all_backends_load_no_heavy_package():
    code = """
import sys
from qattn.backends import options_of
for name in ("exact", "gibbs", "neal", "autoregressive", "diabatic", "qutip", "dwave", "replay"):
    options_of(name)
heavy = {"qutip", "dwave.system", "dwave.samplers", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_table_of_the_docs_is_that_of_the_options():
    expected = ["| backend | option | default | what it is |", "|---|---|---|---|"]
    for name in OURS:
        expected += [
            f"| `{name}` | `{o.name}` | {'' if o.default is None else f'`{o.default}`'} "
            f"| {o.help} |"
            for o in options_of(name).values()
            if o.name != "refine_sweeps"
        ]
    page = (DOCS / "backends.md").read_text(encoding="utf-8")
    written = page[page.index(expected[0]) :].split("\n\n")[0]
    assert written.splitlines() == expected
