"""Schedules, their files and their effective inverse temperatures."""

import itertools
import math

import numpy as np
import pytest
from _support.annealing import advantage2
from scipy.integrate import quad

from qattn.simulators.effective_beta import effective_betas, integrands, plot_schedule
from qattn.simulators.schedules import NAMED, AnnealSchedule, get_schedule
from qattn.simulators.settings import AnnealSettings

PIECES = [(0.0, 0.0), (1.0, 0.6), (1.5, 0.6), (2.0, 0.4), (4.0, 1.0)]


def test_effective_betas_of_a_constant_field_have_a_closed_form():
    # A = B = 1 GHz: ∫_0^T 2π sin 2π(T - t) dt = 1 - cos 2πT, and half of 1 - cos 4πT.
    T = 0.3
    schedule = AnnealSchedule(np.array([0.0, 1.0]), np.ones(2), np.ones(2), T)
    expected = (1 - math.cos(2 * math.pi * T), (1 - math.cos(4 * math.pi * T)) / 2)
    assert effective_betas(schedule) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("annealing_time", [1.0, 7.0])
def test_effective_betas_agree_with_adaptive_quadrature(name, annealing_time):
    schedule = get_schedule(name, annealing_time)
    pieces = np.linspace(0, annealing_time, 50)
    for found, which in zip(effective_betas(schedule), (0, 1), strict=True):

        def integrand(t, which=which):
            return float(integrands(schedule, np.array([t]))[which][0])

        reference = sum(
            quad(integrand, a, b, limit=200, epsabs=1e-11)[0] for a, b in itertools.pairwise(pieces)
        )
        assert found == pytest.approx(reference, rel=1e-6)


@pytest.mark.parametrize(
    ("annealing_time", "expected"), [(5.0, (10.2, 11.2)), (10.0, (22.4, 24.0))]
)
def test_published_fast_schedule_gives_the_stated_betas(annealing_time, expected):
    schedule = AnnealSchedule.from_file(advantage2(), annealing_time)
    assert effective_betas(schedule) == pytest.approx(expected, abs=0.05)


def test_standard_sheet_is_another_schedule():
    fast, standard = (get_schedule(advantage2(), 5.0, sheet=s) for s in ("fast", "standard"))
    assert abs(effective_betas(fast)[0] - effective_betas(standard)[0]) > 1


def test_only_a_workbook_has_a_sheet(tmp_path):
    table = tmp_path / "measured.csv"
    table.write_text("s,A(s) (GHz),B(s) (GHz)\n0,5,0\n0.5,1,1\n1,0,5\n")
    assert AnnealSchedule.from_file(table, 5.0).name == "measured"
    for schedule in (None, "flux_qubit", table):
        assert "sheet" not in AnnealSettings(schedule).to_dict()
    assert AnnealSettings("a.XLSX").to_dict()["sheet"] == "fast"
    assert AnnealSettings(tmp_path / "a.xlsx", sheet="standard").to_dict()["sheet"] == "standard"


def test_csv_reads_like_the_sheet_it_was_saved_from(tmp_path):
    schedule = AnnealSchedule.from_file(advantage2(), 5.0)
    rows = zip(schedule.s, schedule.A, schedule.B, strict=True)
    file = tmp_path / "fast.csv"
    file.write_text(
        "s,A(s) (GHz),B(s) (GHz),c (normalized)\n"
        + "".join(f"{s!r},{a!r},{b!r},0\n" for s, a, b in (map(float, row) for row in rows))
    )
    again = AnnealSchedule.from_file(file, 5.0)
    assert np.array_equal(again.A, schedule.A)
    assert np.array_equal(again.B, schedule.B)


def test_path_of_points_bends_the_schedule():
    schedule = AnnealSchedule(*np.array([[0, 0.5, 1], [4, 1, 0], [0, 1, 3]]), 4.0)
    bent = AnnealSchedule(schedule.s, schedule.A, schedule.B, 4.0, path=PIECES)
    fractions = {0.5: 0.3, 1.2: 0.6, 1.75: 0.5, 3.0: 0.7}
    for t, s in fractions.items():
        for along, straight in zip(bent.at(t), schedule.at(4.0 * s), strict=True):
            assert along == pytest.approx(straight)
    times = bent.times
    assert set(np.array(PIECES)[:, 0]) <= set(times)
    middle = (times[1:] + times[:-1]) / 2
    for at_middle, at_knots in zip(bent.at(middle), bent.at(times), strict=True):
        assert at_middle == pytest.approx((at_knots[1:] + at_knots[:-1]) / 2)


def test_straight_path_is_no_path():
    plain = AnnealSchedule.linear(3.0)
    points = [(0.0, 0.0), (1.5, 0.5), (3.0, 1.0)]
    straight = AnnealSchedule(plain.s, plain.A, plain.B, 3.0, path=points)
    assert effective_betas(straight) == pytest.approx(effective_betas(plain), rel=1e-12)


def test_areas_are_the_integrals_of_A_and_B():
    schedule = AnnealSchedule.flux_qubit(4.0)
    bent = AnnealSchedule(schedule.s, schedule.A, schedule.B, 4.0, path=PIECES)
    times = np.linspace(0, 3.1, 200_001)
    for area, values in zip(bent.areas(3.1), bent.at(times), strict=True):
        assert area == pytest.approx(np.trapezoid(values, times), rel=1e-6)
    assert bent.phase(4.0) == 0
    assert bent.phase(0.0) == pytest.approx(2 * math.pi * float(bent.areas(4.0)[0]))


def test_stretching_keeps_the_shape():
    bent = AnnealSchedule.flux_qubit(4.0)
    bent = AnnealSchedule(bent.s, bent.A, bent.B, 4.0, path=PIECES)
    long = bent.with_annealing_time(12.0)
    assert long.phase(0.0) == pytest.approx(3 * bent.phase(0.0))
    assert long.at(3.6)[0] == pytest.approx(bent.at(1.2)[0])


def test_plot_shows_energies_phase_and_integrands():
    axes = plot_schedule(AnnealSchedule.linear(3.0)).axes
    assert [len(panel.lines) for panel in axes] == [2, 1, 2]
    assert axes[2].lines[0].get_ydata().max() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"annealing_time": 0.0}, "Argument `annealing_time` must be positive"),
        ({"s": [0, 0.7, 0.6, 1]}, "does not always increase"),
        ({"s": [0, 0.5, 1]}, "must be of one length"),
        ({"s": [0.1, 0.5, 0.7, 1]}, "must increase from 0 to 1, but runs from 0.1"),
        ({"A": [1, 1, -1, 0]}, "Argument `A` must be finite and not negative"),
        ({"path": [(0.0, 0.0), (1.0, 1.0)]}, r"must run from \(0, 0\) to \(annealing_time, 1\)"),
        ({"path": [(0.0, 0.0), (2.0, 0.5), (1.0, 0.7), (3.0, 1.0)]}, "increasing times"),
    ],
)
def test_wrong_schedules_are_named(arguments, message):
    values = {
        "s": [0, 0.3, 0.6, 1],
        "A": [1, 1, 1, 0],
        "B": [0, 1, 1, 1],
        "annealing_time": 3.0,
    } | arguments
    values |= {key: np.array(values[key], dtype=float) for key in "sAB"}
    with pytest.raises(ValueError, match=message):
        AnnealSchedule(**values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,energy\n0,1\n", r"must have a header with the columns 's', 'A\(s\) \(GHz\)'"),
        ("s,A(s) (GHz),B(s) (GHz)\n0,1,2\n1,x,3\n", "must hold numbers, but row 3 holds"),
        ("s,A(s) (GHz),B(s) (GHz)\n0,1,2\n", "must have at least 2 rows of numbers, but has 1"),
        ("", "must have a header"),
    ],
)
def test_wrong_files_are_named(tmp_path, text, message):
    file = tmp_path / "schedule.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        AnnealSchedule.from_file(file, 5.0)
    assert "\n" not in str(error.value)


def test_files_of_other_kinds_are_refused(tmp_path):
    fake = tmp_path / "schedule.xlsx"
    fake.write_text("not a workbook")
    with pytest.raises(ValueError, match="is not a readable xlsx file"):
        AnnealSchedule.from_file(fake, 5.0)
    with pytest.raises(FileNotFoundError, match="must be an existing file"):
        AnnealSchedule.from_file(tmp_path / "none.csv", 5.0)
    with pytest.raises(ValueError, match="must be one of linear, quadratic, flux_qubit or the"):
        get_schedule("lineer")
    with pytest.raises(ValueError, match="must be 'fast' or 'standard', but is 'slow'"):
        AnnealSchedule.from_file(fake, 5.0, sheet="slow")


def test_a_workbook_without_the_sheet_is_named(tmp_path):
    import openpyxl

    file = tmp_path / "other.xlsx"
    openpyxl.Workbook().save(file)
    with pytest.raises(ValueError, match="must have a sheet 'Fast-Annealing Schedule'"):
        AnnealSchedule.from_file(file, 5.0)
