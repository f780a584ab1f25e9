"""What several files of this folder share."""

import pytest

from tests.acceptance.demo_run import DemoRun, run_demo


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """One demo for all who look at what it shows and leaves; nobody changes its files."""
    directory = tmp_path_factory.mktemp("first_run")
    return DemoRun(directory, run_demo(directory))
