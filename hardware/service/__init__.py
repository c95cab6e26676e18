"""D-Wave's service: credentials, the solver, its API, and the ceiling on what may be spent."""

from qattn.hardware.service.budget import (
    BudgetExceeded,
    QPUBudget,
    Reservation,
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
from qattn.hardware.service.secret import Secret, install_log_filter, redact, scrubbed
from qattn.hardware.service.solver_api import (
    Busy,
    JobStatus,
    ProblemService,
    RawAnswer,
    Refused,
    ServiceError,
    Unclear,
)

__all__ = [
    "BudgetExceeded",
    "Busy",
    "Credentials",
    "Device",
    "InsecureCredentialsWarning",
    "JobStatus",
    "NoCredentialsError",
    "ProblemService",
    "QPUBudget",
    "RawAnswer",
    "Refused",
    "Reservation",
    "Secret",
    "ServiceError",
    "SolverUnavailable",
    "Unclear",
    "connect",
    "format_duration",
    "install_log_filter",
    "parse_duration",
    "redact",
    "resolve",
    "scrubbed",
]
