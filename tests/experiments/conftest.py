"""A Dask cluster in this process, which its tests share."""

import pytest


@pytest.fixture(scope="session")
def one_worker_here():
    """Address of a scheduler with one worker of one thread."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, memory_limit=0,
        dashboard_address="127.0.0.1:0", scheduler_kwargs={"dashboard": False},
        protocol="tcp", host="127.0.0.1",
    ) as cluster:  # fmt: skip
        yield cluster.scheduler_address
