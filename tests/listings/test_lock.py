"""What make release-check says of a lock, without DVC: tests/docs/test_sharing.py runs the command."""

from tests.listings.lock import changes, made_anew, not_in_git


def test_data_that_are_elsewhere_are_no_change() -> None:
    told = [
        {"changed deps": {"data/a": "deleted", "code.py": "modified", "params.yaml": {"lr": "modified"}}},
        {"changed outs": {"data/b": "not in cache"}},
        "changed command",
    ]
    assert list(changes(told)) == ["code.py: modified", "lr: modified", "changed command"]


def test_a_dependency_that_was_made_anew_is_named() -> None:
    def lock(hash_of_input: str) -> dict:
        deps = [{"path": "data/a", "md5": hash_of_input}, {"path": "code.py", "md5": "3"}]
        return {"make": {"outs": [{"path": "data/a", "md5": "1"}]}, "use": {"deps": deps, "outs": []}}

    assert list(made_anew("use", lock("1"))) == []
    assert list(made_anew("use", lock("2"))) == ["data/a: another one was made since"]


def test_a_dependency_that_nothing_makes_must_be_in_git(tmp_path) -> None:
    every = {"make": {"outs": ["data/a/x"]}, "use": {"deps": ["data/a", "here.py", "gone.py", "${root}/y"]}}
    (tmp_path / "here.py").touch()
    assert list(not_in_git(tmp_path, "use", every)) == ["gone.py: not in git"]
