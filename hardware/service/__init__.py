"""D-Wave's service: credentials, the solver, its API, and the ceiling on what may be spent."""

from qattn.hardware.service.budget import (
    BudgetExceeded,
    QPUBudget,
    format_duration,
    parse_duration,
)
from qattn.hardware.service.credentials import (
    Credentials,
    InsecureCredentialsWarning,
    NoCredentialsError,
    resolve,
)
from qattn.hardware.service.device import Device, SolverUnavailable, connect
from qattn.hardware.service.secret import Secret, install_log_filter, redact

__all__ = [
    "BudgetExceeded",
    "Credentials",
    "Device",
    "InsecureCredentialsWarning",
    "NoCredentialsError",
    "QPUBudget",
    "Secret",
    "SolverUnavailable",
    "connect",
    "format_duration",
    "install_log_filter",
    "parse_duration",
    "redact",
    "resolve",
]
