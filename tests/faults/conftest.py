"""The small project whose commands are run."""

from tests.inference.conftest import project as project
