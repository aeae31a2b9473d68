"""Small worlds that tests of several rooms share: a CLIP, what a captioner is trained on, a project that ran."""

pytest_plugins = ("tests.worlds.clip", "tests.worlds.captioner", "tests.worlds.project")
