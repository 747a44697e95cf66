"""Sweeps of any pipeline on a cluster."""

from tests.suites.sweeps import test_trials_share_jobs_and_each_has_its_own_run  # noqa: F401
