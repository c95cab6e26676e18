"""The page of curves against temperature in a real browser."""

import pytest
import torch
from _support.browser import WIDTHS, check_page

from qattn import IsingBatch, exact
from qattn.compare import page
from qattn.problems import named
from qattn.thermo_report import measure, thermo_of_problems, thermo_of_run, write_report
from qattn.thermo_report.queries import LayerQueries


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page of problems with a long name, and of a run of three layers of eight heads."""
    folder = tmp_path_factory.mktemp("thermo")
    betas = torch.linspace(0.5, 2, 4)
    scores = torch.randn(8, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    batch = IsingBatch(scores / 2, torch.zeros(8, 4, 4).double())
    layer = LayerQueries(scores, exact.occupations(batch), batch, torch.arange(8))
    name = "synthetic:spins=4,problems=10,field_sd=0.123456789,coupling_sd=0.987654321"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "DPI", 40)
        patch.setattr(page, "FORMATS", ("png",))
        patch.setattr(measure, "queries_of_run", lambda *_, **__: [layer] * 3)
        sections = [thermo_of_problems({name: named(name)}, betas), thermo_of_run(folder, betas)]
        write_report(sections, folder, command="qattn thermo " + "--problems x " * 20)
    return folder / "thermo.html"


@pytest.mark.parametrize("width", WIDTHS)
def test_page_is_whole_and_fits(browser, written, width):
    check_page(browser, written, width, 6)
