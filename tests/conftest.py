"""What every folder of tests may use, and how they draw their random examples."""

from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run: a change is judged by what it changes. `pytest --hypothesis-profile=explore`
# draws new ones, for an hour when one goes looking for faults.
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("repeat")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of books, questions and facts that lies beside the repository on a developer's machine."""
    folder = REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip("no folder 'shared' beside the repository")
    return folder
