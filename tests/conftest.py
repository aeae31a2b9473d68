"""Small worlds that tests of several rooms share: a CLIP, a captioner's data, a project that has run."""

pytest_plugins = ("tests.worlds.clip", "tests.worlds.captioner", "tests.worlds.project")
