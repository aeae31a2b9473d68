"""Java's programs say the same whatever the user's locale; where one fails, its exception is told."""

import os
import subprocess
from pathlib import Path

import pytest

from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring import meteor
from fsgr_model.scoring.caption_tokens import tokenized
from fsgr_model.scoring.coco_metrics import score_captions
from fsgr_model.scoring.java import PROPERTIES, JavaFailure, find_java, java_environment, reason, run_java
from fsgr_model.scoring.meteor import MeteorProgram

REFERENCES = {1: ["A man rides a horse", "a horse with a rider"], 2: ["TWO CATS in ISTANBUL", "café life"]}
RESULTS = {1: "a man on a horse", 2: "I see two cats in a café"}
# A decimal comma, a dotless i, digits of another script, another alphabet; said in the ways that Java knows.
LOCALES = [
    "-Duser.language=de -Duser.region=DE",
    "-Duser.language.format=fr -Duser.country.format=FR",
    "-Duser.language=tr -Duser.country=TR",
    "-Duser.language=ar -Duser.country=EG -Duser.extensions=u-nu-arab",
    "-Duser.language=de -Dfile.encoding=ISO-8859-1",
]
# Each locale in one of the three variables that Java takes options from; the last one beats the command line.
VARIABLES = ["JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "_JAVA_OPTIONS", "JAVA_TOOL_OPTIONS"]


@pytest.fixture(scope="module")
def plain() -> dict[str, float]:
    return score_captions(REFERENCES, RESULTS, "auto", "java").metrics


@pytest.mark.java
@pytest.mark.parametrize(("options", "variable"), list(zip(LOCALES, VARIABLES, strict=True)))
def test_scores_and_tokens_of_java_are_those_of_any_locale(
    options: str, variable: str, plain: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, options)
    assert score_captions(REFERENCES, RESULTS, "auto", "java").metrics == plain
    assert tokenized({1: ["A BIG CAFÉ IN İZMİR"]}, "java") == tokenized(
        {1: ["A BIG CAFÉ IN İZMİR"]}, "python"
    )


@pytest.mark.java
@pytest.mark.parametrize("name", ["de_DE.UTF-8", "tr_TR.UTF-8", "de_DE.ISO-8859-1", "C"])
def test_a_locale_of_the_system_changes_nothing(
    name: str, plain: dict[str, float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name != "C":
        language, _, encoding = name.partition(".")
        command = ["localedef", "-i", language, "-f", encoding, str(tmp_path / name)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip(f"this system cannot make the locale {name}")
        monkeypatch.setenv("LOCPATH", str(tmp_path))
    monkeypatch.setenv("LC_ALL", name)
    assert score_captions(REFERENCES, RESULTS, "auto", "java").metrics == plain


def test_options_that_win_over_the_command_line_are_won_over() -> None:
    assert java_environment({"LANG": "de_DE"}) == {"LANG": "de_DE"}
    found = java_environment({"_JAVA_OPTIONS": "-Xss1m -Duser.language=de"})["_JAVA_OPTIONS"]
    assert found.startswith("-Xss1m -Duser.language=de ") and found.endswith(" ".join(PROPERTIES))


TRACE = "\tat Meteor.scoreStdio(Unknown Source)\n\tat Meteor.main(Unknown Source)\n"
NUMBER = 'Exception in thread "main" java.lang.NumberFormatException: For input string: "0,5"\n'
CAUSED = (
    f"java.lang.ExceptionInInitializerError\n{TRACE}Caused by: java.lang.RuntimeException: a\n\t... 3 more\n"
    "Caused by: java.io.IOException: b\n\t... 9 more\n"
)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (NUMBER + TRACE, 'java.lang.NumberFormatException: For input string: "0,5"'),
        ("Picked up JAVA_TOOL_OPTIONS: -Da=b\n" + NUMBER, "java.lang.NumberFormatException: For input"),
        (
            "PTBTokenizer tokenized 2 tokens.\njava.io.IOException: no room\n" + TRACE,
            "java.io.IOException: no",
        ),
        (CAUSED, "java.lang.ExceptionInInitializerError, caused by java.io.IOException: b"),
        ("Error: Unable to access jarfile a.jar\n", "Error: Unable to access jarfile a.jar"),
        ("Error occurred during initialization of VM\nNo heap\n", "Error occurred during initial"),
        ("", "exit code 3 without a message"),
    ],
)
def test_the_reason_is_the_exception_and_no_line_of_a_stack(said: str, why: str) -> None:
    found = reason(said, 3)
    assert found.startswith(why)
    assert not any(part in found for part in ("at Meteor", "Picked up", " more", "\n", "\t"))


def test_a_program_that_the_system_ended_is_said_to_be() -> None:
    assert reason("", -9) == "ended by SIGKILL, as systems do that run out of memory"


@pytest.mark.java
def test_an_exception_of_the_real_programs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    java = find_java()
    assert java is not None
    monkeypatch.setattr(meteor, "ARGUMENTS", ["-Xmx20M", *meteor.ARGUMENTS[1:]])
    with (
        MeteorProgram(java) as program,
        pytest.raises(
            UserError,
            match=r"METEOR failed with .*java: java\.lang\.OutOfMemoryError: Java heap space; take meteor",
        ),
    ):
        program.score({1: ["a dog"]}, {1: ["a dog"]})
    with pytest.raises(JavaFailure, match=r"^Error: Unable to access jarfile none\.jar$"):
        run_java(java, ["-jar", "none.jar"], Path(os.sep))


@pytest.mark.parametrize("content", ["", "no program"])
def test_a_java_that_is_no_program_is_one_line(content: str, tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text(content)
    with pytest.raises(UserError, match=r"METEOR failed with .*/java: Permission denied; take meteor"):
        MeteorProgram(java)


def test_a_program_that_says_much_is_not_waited_for(tmp_path: Path) -> None:
    """More than a pipe holds, before the first word of an answer."""
    java = tmp_path / "java"
    java.write_text(
        "#!/bin/sh\nyes 'warning: x' | head -n 50000 >&2\necho 'x.y.ZError: enough' >&2\nexit 2\n"
    )
    java.chmod(0o755)
    with (
        MeteorProgram(java) as program,
        pytest.raises(UserError, match=r": x\.y\.ZError: enough; take"),
    ):
        program.score({1: ["a dog"]}, {1: ["a dog"]})
