"""What a check of a project found: facts, which are printed at once, and problems, listed at the end."""

from collections.abc import Iterator
from contextlib import contextmanager

from fsgr_model.runtime.errors import UserError


class Findings:
    """`facts` are lines about what was found; `problems` name the rule, what was found and what to do."""

    def __init__(self) -> None:
        self.facts: list[str] = []
        self.problems: list[str] = []

    def fact(self, subject: str, text: str) -> None:
        """Add a fact and print it at once, since the next check may take a while."""
        self.facts.append(f"{subject:<10}{text}")
        print(self.facts[-1], flush=True)

    def problem(self, text: str) -> None:
        """Add a problem to be fixed; the same one found twice counts once."""
        line = " ".join(text.split())
        if line not in self.problems:
            self.problems.append(line)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """A `UserError` in the block becomes a problem, and the check continues after the block."""
        try:
            yield
        except UserError as error:
            self.problem(str(error))

    def verdict(self) -> str:
        """The last words of the check."""
        if not self.problems:
            return "yes: no problem was found; start the run with dvc repro"
        count = len(self.problems)
        numbered = [f"{number}. {problem}" for number, problem in enumerate(self.problems, start=1)]
        return "\n".join([f"no: {count} thing{'s' if count > 1 else ''} to fix", *numbered])
