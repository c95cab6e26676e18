"""An emulated QPU is called that in every row, figure and file of a comparison."""

import io
import json

import pytest
from matplotlib.text import Text
from rich.console import Console

from qattn import exact, register_backend
from qattn.backends import Backend, registry
from qattn.compare import CompareSettings, compare, parse_samplers
from qattn.compare.figures import overview, panels, sweeps
from qattn.compare.results import plain_info
from qattn.compare.table import figure_rows, latex, table, table_rows
from qattn.compare.trainings import TrainingCurve
from qattn.compare.trainings_report import training_figures, training_rows
from qattn.compare.verdict import verdict
from qattn.ising.samples import SpinSamples
from qattn.problems import named

LABEL = "test_device (EMULATED)"


class EmulatedDevice(Backend):
    """Exact reads that say they come from an emulated QPU; none if too many are wanted."""

    def provenance(self):
        return {"solver": "emulated_zephyr", "emulated": True}

    def sample(self, batch, *, num_reads, seed=None):
        if num_reads > 100:
            raise RuntimeError("too many reads")
        samples = exact.sample(batch, num_reads, seed)
        return SpinSamples(samples.spins, info=self.provenance())


@pytest.fixture(scope="module")
def result():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_registered", dict(registry._registered))
        register_backend("test_device", EmulatedDevice)
        settings = CompareSettings(
            num_reads=50, floor_repeats=2, refine_sweeps=1, reads_sweep=(50, 200), strengths=(0.5,)
        )
        problems = {"tiny": named("synthetic:spins=3,problems=10")}
        yield compare(parse_samplers("exact,test_device"), problems, settings)


def words_of(figure):
    texts = [text.get_text() for text in figure.findobj(Text)]
    return " ".join(" ".join(texts).split())


def test_in_tables_and_files(result):
    one = result.sets[0]
    names = ["exact", LABEL, f"{LABEL} + 1 sweeps"]
    assert [row[0] for row in table_rows(one)][1:] == names
    assert figure_rows(one)[0][1:-1] == names
    printed = io.StringIO()
    Console(file=printed, width=80).print(table(one))
    assert printed.getvalue().count("(EMULATED)") == 2
    assert verdict(one).count("test_device") == verdict(one).count("(EMULATED)") == 2
    assert latex(one).count(r"test\_device (EMULATED)") == 2
    text = json.dumps([result.to_dict(), result.context()])
    assert text.count("test_device") == text.count(LABEL) > 3
    # The sweeps' points too, those that failed among them.
    assert list(one.sweeps["num_reads"]) == list(one.sweeps["strength"]) == ["exact", LABEL]
    assert one.sweeps["num_reads"][LABEL][1].error == "too many reads"
    assert plain_info(one.results[1].info)["emulated"]


def test_in_every_figure(result):
    one, judged = result.sets[0], [r for r in result.sets[0].results if r.quality is not None]
    drawn = {
        "summary": overview.summary_figure(judged),
        "energies": overview.energies_figure(one, judged),
        "moments": panels.moments_figure(one, judged),
        "temperatures": panels.temperatures_figure(judged),
    } | sweeps.sweep_plots(one, [r.label for r in judged])
    assert len(drawn) == 6
    for name, figure in drawn.items():
        words = words_of(figure)
        assert words.count("test_device") == words.count(LABEL) > 0, name


def test_a_sampler_that_failed_is_named_too():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_registered", dict(registry._registered))
        register_backend("test_device", EmulatedDevice)
        settings = CompareSettings(num_reads=200, floor_repeats=2)
        failed = compare(
            parse_samplers("test_device"), {"tiny": named("sk:spins=3,problems=2")}, settings
        )
    assert table_rows(failed.sets[0]) == [[LABEL, "failed: too many reads", *[""] * 13]]


def test_in_trainings():
    curves = [
        TrainingCurve(label, 0, "accuracy", [0, 2], [0.5, 0.6], [0.7, 0.6], [float("nan"), 0.1])
        for label in ("exact", LABEL)
    ]
    assert [row[0] for row in training_rows(curves)] == ["exact", LABEL]
    for figure in training_figures(curves).values():
        assert LABEL in words_of(figure)
