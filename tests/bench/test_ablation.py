from bench.ablation import cell_name, gains


def test_gains_are_taken_seed_by_seed() -> None:
    """The worlds differ by 1.0, the network from the baseline of its world by 0.1 and 0.3."""
    scores = {
        cell_name(row, seed): {
            phase: {"seen.CIDEr": 2.0, "unseen.CIDEr": world + more, "unseen.CHAIRi": 0.2 - more / 2}
            for phase in ("xe", "scst")
        }
        for row, of_seed in {"baseline": (0.0, 0.0), "all": (0.1, 0.3)}.items()
        for seed, world, more in zip((42, 43), (1.0, 2.0), of_seed, strict=True)
    }
    lines = gains(scores, ["baseline", "all"], [42, 43]).splitlines()
    assert lines[2:] == [
        f"| all | {phase} | 0.000 ± 0.000 | 0.200 ± 0.100 | -0.100 ± 0.050 |" for phase in ("XE", "SCST")
    ]
