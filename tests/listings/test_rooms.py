"""The package's rooms: what may import what, and how large a file may be."""

from tests.listings import rooms

LONGEST = 350


def test_no_room_imports_one_above_it():
    assert rooms.upward(rooms.edges()) == []


def test_an_import_of_a_room_above_is_noticed():
    edge = ("clip", "training", rooms.PACKAGE / "clip" / "split.py", "fsgr_model.training.loop")
    assert len(rooms.upward([edge])) == 1


def test_every_module_has_a_room_and_every_room_is_there():
    """At the package's root there are only the door and the public interface."""
    beside = {path.stem for path in rooms.PACKAGE.glob("*.py")}
    assert beside <= rooms.AT_THE_DOOR
    found = {path.name for path in rooms.PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert found == set(rooms.ROOMS) - {"pipeline"}


def test_no_file_is_too_long_to_find_ones_way_in():
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in rooms.modules()}
    assert not {path: count for path, count in lengths.items() if count > LONGEST}
