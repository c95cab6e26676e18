"""Options of the commands in groups, as their helps show them."""

import re
from typing import Any

from typer.core import TyperCommand

GROUPS: dict[str, dict[str, str]] = {
    "backends": {"Output": "json"},
    "calibrate": {
        "Problems": "run problems spins field_sd coupling_sd seed",
        "Sampler and settings to try": "sampler schedule sheet annealing_time field_encoding",
        "D-Wave": "chain_strength num_reads shim qpu_budget journal credentials solver endpoint "
        "region",
        "Output": "out",
    },
    "compare": {
        "Samplers": "samplers num_reads estimator refine_sweeps emulate_qpu "
        "emulated_device journal",
        "Problems": "problems seed",
        "Sweeps": "annealing_times reads_sweep strengths floor_repeats tempering_sweeps",
        "Trainings": "training config seeds",
        "Output": "out json",
    },
    "doctor": {
        "D-Wave": "credentials endpoint region solver qpu_budget calibration annealing_time "
        "field_encoding pack",
        "Training whose cost is estimated": "config couplings coupling_width context layers heads "
        "batch_size num_reads steps",
        "Output": "json",
    },
    "emulate-qpu": {
        "Processor": "device topology shape dead_qubits dead_couplers seed",
        "Physics": "beta_h beta_J schedule sheet h_noise j_noise flux_offset chain_offset "
        "readout_flip drift",
        "Service": "port token_file credentials tls account fault seconds",
    },
    "experiment list": {"Folder": "out"},
    "experiment report": {
        "Experiments": "names seeds steps data",
        "Folder": "out",
    },
    "experiment run": {
        "Experiment": "name seeds steps data download only",
        "Machines": "workers scheduler",
        "Folder": "out",
    },
    "experiment status": {
        "Experiments": "names seeds steps data",
        "Folder": "out",
    },
    "fit-sampler": {
        "Problem": "problems problem beta family lowest_beta problems_at_a_time",
        "Net": "logit iterations order exact_width table_width parameters head head_width "
        "head_heads",
        "Steps": "steps seconds batch_size lr positions seed threads",
        "Lost modes": "distil distil_sweeps tempering_reads",
        "Measurements": "reference num_reads evaluations log_every",
        "Run": "out resume checkpoint_seconds",
    },
    "generate": {
        "Model and text": "run prompt tokens member data",
        "Tokens": "temperature top_k seed",
        "Mean spins": "sampler num_reads",
        "Output": "attention",
    },
    "plot": {"Curves": "runs metric x", "Output": "out"},
    "qpu-check": {
        "Account": "credentials endpoint region solver qpu_budget emulate_qpu",
        "Run": "seed out",
    },
    "runs": {"Folder": "folder", "Output": "sort json"},
    "show": {
        "Model and text": "run text layers member data",
        "Mean spins": "sampler num_reads",
        "Output": "out",
    },
    "spin-glass": {
        "Problems": "problems seed",
        "Temperatures": "betas overlap_betas",
        "Sampler": "num_reads logit iterations order exact_width checkpoint fit_seconds",
        "Reference": "tempering_sweeps",
        "Output": "out json",
    },
    "thermo": {
        "Problems": "problems run sequences positions member seed",
        "Curves": "betas sampler num_reads",
        "Output": "out json",
    },
    "train": {
        "Task": "task data tokens vocab_size download context",
        "Model": "attention layers heads width ffn ffn_width qk_norm normalize position_bias "
        "beta beta_every",
        "Couplings": "couplings relative content coupling_constraint coupling_std "
        "coupling_width coupling_sign block_size max_count competitive interaction",
        "Spin models": "spins spin_mean_field steady_state spin_field",
        "Optimiser": "steps batch_size lr coupling_lr_factor weight_decay warmup lr_decay",
        "Sampler": "sampler moments num_reads estimator refine_sweeps eval_sampler",
        "Chains (gibbs, neal)": "num_sweeps max_sweeps persistent proposals ramp_sweeps",
        "Annealers, simulated and D-Wave": "calibration betas schedule sheet annealing_time "
        "field_encoding warn_divergence tolerance dephasing_rate relaxation_rate",
        "D-Wave": "emulate_qpu qpu_budget journal chain_strength spin_reversal_transforms "
        "out_of_range follow_betas reduce_intersample_correlation readout_thermalization failover "
        "max_in_flight credentials solver endpoint region",
        "Run": "out resume buy_again config seed ensemble device threads log_every eval_every "
        "gradient_every checkpoint_every checkpoint_seconds track",
    },
}
"""By command, the groups in the order of its help, each with its options; --help comes last."""


class GroupedCommand(TyperCommand):
    """A command whose help shows its options under the titles of :data:`GROUPS`."""

    def option_groups(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """Flags and texts of the options under the title of each group, the rest as "Options"."""
        groups = GROUPS.get(self.name or "", {})
        place = {option: title for title, names in groups.items() for option in names.split()}
        order = {option: number for number, option in enumerate(place)}
        found: dict[str, list[tuple[str, str]]] = {title: [] for title in groups}
        for param in sorted(self.get_params(ctx), key=lambda p: order.get(p.name or "", 999)):
            if (record := param.get_help_record(ctx)) is not None:
                flag = re.sub(r"<list\[(\w+)\]>", r"<\1>", record[0])  # that of one value
                flag = flag.replace("<float,float>...", "<float> <float>")
                title = place.get(param.name or "", "Options")
                found.setdefault(title, []).append((flag, record[1]))
        return {title: options for title, options in found.items() if options}

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write each group as a section."""
        for title, options in self.option_groups(ctx).items():
            with formatter.section(title):
                formatter.write_dl(options)
