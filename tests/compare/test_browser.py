"""The pages of a comparison in a real browser: Playwright with the system's Chromium."""

import pytest
from _support.browser import WIDTHS, check_page

from qattn import exact, register_backend
from qattn.backends import Backend, registry
from qattn.compare import CompareSettings, compare, page, parse_samplers
from qattn.compare.report import write_report
from qattn.compare.trainings import TrainingCurve
from qattn.compare.trainings_report import write_training_report
from qattn.ising.samples import SpinSamples
from qattn.problems import named


class Device(Backend):
    """Exact reads that come with the settings of an emulated QPU."""

    def sample(self, batch, *, num_reads, seed=None):
        info = {
            "solver": "Emulated_zephyr_6_4",
            "emulated": True,
            "qpu_access_seconds": 0.03,
            "calibration_age_hours": 3.5,
            "betas": (4.30769865078734, 3.4150715977769046),
            "graph_id": "4fe377b31d" * 4,
        } | {f"a_setting_of_the_device_{i}": i / 7 for i in range(12)}
        return SpinSamples(exact.sample(batch, num_reads, seed).spins, info=info)


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The two pages, each with long labels and every kind of row."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_registered", dict(registry._registered))
        patch.setattr(page, "DPI", 40)
        patch.setattr(page, "FORMATS", ("png",))
        register_backend("test_device", Device)
        samplers = "exact,neal:num_sweeps=50,ramp_sweeps=10,test_device"
        settings = CompareSettings(num_reads=60, floor_repeats=2, reads_sweep=(30,))
        specs = parse_samplers(samplers)
        problems = {"synthetic:spins=4,problems=10": named("synthetic:spins=4,problems=10")}
        comparison = compare(specs, problems, settings)
        write_report(comparison, folder, command="qattn compare " + "--samplers x " * 20)
        nan = float("nan")
        curves = [
            TrainingCurve(label, seed, "accuracy", [0, 2], [0.5, 0.6], [0.7, 0.6], [nan, 0.1], 1.0)
            for label in ("exact", "dwave:annealing_time=5,field_encoding=ghost (EMULATED)")
            for seed in (0, 1)
        ]
        write_training_report(curves, folder)
    return folder


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("name", "pictures"), [("report.html", 5), ("training.html", 2)])
def test_page_is_whole_and_fits(browser, pages, name, pictures, width):
    check_page(browser, pages / name, width, pictures)


def test_the_test_sees_what_is_wrong(browser, tmp_path):
    """Negative control: a broken picture, an overflow and an error in the console are seen."""
    file = tmp_path / "broken.html"
    file.write_text(
        '<body><img src="data:image/png;base64,AAAA"><p style="width:2000px">x</p>'
        "<script>console.error('wrong')</script>"
    )
    view = browser.new_page(viewport={"width": 400, "height": 900})
    complaints = []
    view.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    view.goto(file.as_uri())
    assert view.eval_on_selector_all("img", "i => i.map(x => x.naturalWidth)") == [0]
    assert view.evaluate("document.documentElement.scrollWidth") > 400
    assert complaints == ["wrong"]
    view.close()
