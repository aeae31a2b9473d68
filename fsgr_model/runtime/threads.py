"""PyTorch's threads wait briefly for each other, so that a step does not starve beside another program.

On Linux PyTorch shares out each operation among threads of libgomp. One that is done early spins for
milliseconds, in the hope that the next operation comes at once. Where another program has a core, it
spins through the very time in which its partner could have worked, and a step on two cores takes nearly four
times as long when one of them is taken; with a short spin it takes twice as long
(docs/experiments/shared_core.md). Each operation is shared out as before, so results have the same bytes.
"""

import os

# A user who has set one of these has chosen how threads wait.
CHOSEN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
# libgomp's own number is 300,000 where there are as many cores as threads.
ROUNDS = "1000"


def wait_briefly() -> None:
    """Set the rounds that a thread spins, unless the user has; to be called before PyTorch is imported."""
    if not any(name in os.environ for name in CHOSEN):
        os.environ["GOMP_SPINCOUNT"] = ROUNDS
