"""The result of a comparison in a sentence."""

from scipy import stats

from qattn.compare.results import SamplerResult, SetResult
from qattn.compare.table import COLUMNS, FIGURES
from qattn.quality import METRICS, Quality

LEVEL = 0.05
"""How often a sampler as good as exact may be called off the floor, all figures together."""

NAMES = {name: heading.split()[0] for name, heading in zip(FIGURES, COLUMNS[1:], strict=False)}
"""The figures as the table's headings call them."""


def verdict(set_result: SetResult) -> str:
    """Which samplers are at the noise floor, and what is wrong with the others.

    A sampler is at the floor if none of its figures lies above 1 by more than exact reads do
    (Student's t, with Bonferroni's correction for the number of figures; distances over states do
    not count where the reads do not resolve them). The temperatures of the
    others are named where their 95% intervals exclude 1 (a β above 1 is too cold), else the
    figures that lie above the floor. "N reads worth M" compares their error of ⟨s⟩ with that of
    exact reads.
    """
    at_floor = [label for label, quality in set_result.judged.items() if is_at_floor(quality)]
    parts = [f"{', '.join(at_floor)} at the floor"] if at_floor else []
    parts += [_trouble(r) for r in set_result.results if r.label not in at_floor]
    return "; ".join(parts)


def is_at_floor(quality: Quality) -> bool:
    """Whether no figure of these reads is worse than exact reads would be by chance."""
    return not _above_floor(quality)


def _above_floor(quality: Quality) -> dict[str, float]:
    """Ratios, by name, of the figures that are worse than exact reads would be by chance."""
    scores = {
        name: quality.scores[name]
        for name in FIGURES
        if name in quality.scores and (quality.states_resolved or not METRICS[name].needs_exact)
    }
    one_sided = 1 - LEVEL / max(1, len(scores))
    spread = {name: score.spread(2 * one_sided - 1) for name, score in scores.items()}
    return {n: score.ratio for n, score in scores.items() if not score.ratio - 1 <= spread[n]}


def _trouble(result: SamplerResult) -> str:
    quality = result.quality
    if quality is None:
        return f"{result.label} failed"
    above = _above_floor(quality)
    figures = ", ".join(f"{NAMES[name]} ({ratio:.2f})" for name, ratio in above.items())
    words = [_temperature(quality) or f"above the floor in {figures}"]
    if "mean_rms" in above:
        words.append(_worth(quality))
    return f"{result.label} {', '.join(filter(None, words))}"


def _temperature(quality: Quality) -> str:
    """How far the temperatures are off: one number for both where the fit cannot tell them apart.

    "" where they are right or not fixed.
    """
    fits = quality.one_beta
    if fits is not None and fits[2] > LEVEL:
        beta, error, _ = fits
        clusters = 2 if quality.betas is None else quality.betas.num_clusters
        far = abs(beta - 1) > error * float(stats.t.ppf(0.975, clusters - 1))
        return _too(beta) if far else ""
    if quality.betas is None:
        return ""
    return " and ".join(
        f"{name} {_too(beta)}"
        for name, beta, (low, high) in zip(
            ("fields", "couplings"), quality.betas.values, quality.betas.interval(), strict=True
        )
        if not low <= 1 <= high and low <= high
    )


def _too(beta: float) -> str:
    if beta <= 0:
        return "of the wrong sign"
    return f"{abs(beta - 1):.0%} too {'cold' if beta > 1 else 'hot'}"


def _worth(quality: Quality) -> str:
    reads, worth = float(quality.num_reads.mean()), quality.equivalent_reads
    return f"{reads:,.0f} reads worth {worth:,.0f}" if worth < 0.9 * reads else ""
