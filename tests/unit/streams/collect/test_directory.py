"""An open directory: what is saved in it, and what nobody can make it do."""

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from product_consumer.errors import ConfigurationError, Unavailable
from product_consumer.streams.collect import aside as aside_module
from product_consumer.streams.collect.aside import HiddenFile, UnnamedFile
from product_consumer.streams.collect.directory import NewFile, OutputDirectory


def save(
    output: OutputDirectory, names: list[str], data: bytes, *, same_is_saved: bool = True
) -> tuple[str, bool]:
    """Save one file; return its name, and whether it is new."""
    file = NewFile(names, data, same_is_saved)
    output.save([file])
    return file.name, file.is_new


@pytest.fixture(params=[UnnamedFile, HiddenFile])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> OutputDirectory:
    """A directory of each kind of file system: with files that have no name, and without."""
    directory = OutputDirectory(tmp_path / "received", "--output_directory")
    directory._kind = request.param
    request.addfinalizer(directory.close)
    return directory


def content(output: OutputDirectory) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.path.iterdir() if path.is_file()}


def test_a_file_has_its_name_and_its_bytes(output: OutputDirectory) -> None:
    assert save(output, ["a.jpg"], b"picture") == ("a.jpg", True)
    output.sync()

    assert content(output) == {"a.jpg": b"picture"}


def test_the_same_bytes_under_the_same_name_are_there_already(output: OutputDirectory) -> None:
    save(output, ["a.jpg"], b"picture")

    assert save(output, ["a.jpg", "b.jpg"], b"picture") == ("a.jpg", False)
    assert content(output) == {"a.jpg": b"picture"}


def test_other_bytes_take_the_next_name(output: OutputDirectory) -> None:
    save(output, ["a.jpg"], b"picture")

    assert save(output, ["a.jpg", "a-2.jpg"], b"another") == ("a-2.jpg", True)
    assert content(output) == {"a.jpg": b"picture", "a-2.jpg": b"another"}


def test_equal_files_that_are_two_things_get_two_names(output: OutputDirectory) -> None:
    save(output, ["word_1.txt"], b"the", same_is_saved=False)
    saved = save(output, ["word_1.txt", "word_2.txt"], b"the", same_is_saved=False)

    assert saved == ("word_2.txt", True)


def plant_link_to_a_file(path: Path, outside: Path) -> None:
    outside.write_bytes(b"picture")
    path.symlink_to(outside)


def plant_link_to_nothing(path: Path, outside: Path) -> None:
    path.symlink_to(outside)


def plant_directory(path: Path, _: Path) -> None:
    path.mkdir()


def plant_fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    "plant", [plant_link_to_a_file, plant_link_to_nothing, plant_directory, plant_fifo]
)
def test_what_is_no_file_is_neither_followed_nor_replaced(
    output: OutputDirectory, tmp_path: Path, plant: Callable[[Path, Path], None]
) -> None:
    outside, taken = tmp_path / "outside", output.path / "a.jpg"
    plant(taken, outside)
    before = (outside.exists(), os.lstat(taken).st_ino)

    assert save(output, ["a.jpg", "a-2.jpg"], b"picture")[0] == "a-2.jpg"
    assert (outside.exists(), os.lstat(taken).st_ino) == before


def test_a_name_that_the_file_system_refuses_is_passed_over(output: OutputDirectory) -> None:
    assert save(output, ["x" * 300, "short"], b"picture")[0] == "short"


def test_a_name_taken_meanwhile_is_passed_over(
    output: OutputDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = output._write

    def write_slowly(data: bytes) -> aside_module.Aside:
        (output.path / "a.jpg").write_bytes(b"of another process")
        return write(data)

    monkeypatch.setattr(output, "_write", write_slowly)

    assert save(output, ["a.jpg", "a-2.jpg"], b"picture")[0] == "a-2.jpg"


def test_nothing_is_left_of_a_file_that_could_not_be_written(
    output: OutputDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(Unavailable, match="No space left"):
        patch.setattr(os, "write", refuse)
        save(output, ["a.jpg"], b"picture")

    assert list(output.path.iterdir()) == []
    assert save(output, ["a.jpg"], b"picture")[1]


def test_a_file_is_on_disk_before_it_has_its_name(
    output: OutputDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("write", "fsync", "link"):
        real = getattr(os, name)

        def call(*arguments: object, _name: str = name, _real: object = real, **more: object):
            calls.append(_name)
            return _real(*arguments, **more)  # type: ignore[operator]

        monkeypatch.setattr(os, name, call)
    save(output, ["a.jpg"], b"picture")
    output.sync()

    assert calls == ["write", "fsync", "link", "fsync"]


CRASHES = """
import os, sys
from pathlib import Path
from product_consumer.streams.collect.aside import HiddenFile
from product_consumer.streams.collect.directory import NewFile, OutputDirectory
directory = OutputDirectory(Path(sys.argv[1]), "-")
directory._kind = HiddenFile
os.link = lambda *_, **__: os._exit(9)
directory.save([NewFile(["a.jpg"], b"picture")])
"""


def test_what_a_crash_left_aside_is_gone_after_the_next_start(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", CRASHES, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1

    OutputDirectory(tmp_path, "-").close()

    assert list(tmp_path.iterdir()) == []


def test_what_a_living_process_holds_stays(tmp_path: Path) -> None:
    first = OutputDirectory(tmp_path, "-")
    first._kind = HiddenFile
    aside = first._write(b"picture")

    OutputDirectory(tmp_path, "-").close()

    assert aside.link("a.jpg")
    aside.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]
    first.close()


def test_files_of_other_programs_stay(tmp_path: Path) -> None:
    (tmp_path / ".receiving-mine").write_bytes(b"mine")

    OutputDirectory(tmp_path, "-").close()

    assert (tmp_path / ".receiving-mine").exists()


def test_a_directory_that_was_removed_is_made_again(tmp_path: Path) -> None:
    output = OutputDirectory(tmp_path / "deep" / "received", "-")
    shutil.rmtree(tmp_path / "deep")
    with pytest.raises(Unavailable):
        save(output, ["a.jpg"], b"picture")

    output.probe()

    assert save(output, ["a.jpg"], b"picture")[1]
    assert (tmp_path / "deep" / "received" / "a.jpg").read_bytes() == b"picture"
    output.close()


def a_file(path: Path) -> Path:
    path.write_text("a file")
    return path


def below_a_file(path: Path) -> Path:
    return a_file(path) / "received"


def dangling(path: Path) -> Path:
    path.symlink_to(path.parent / "nowhere")
    return path


@pytest.mark.parametrize("make", [a_file, below_a_file, dangling])
def test_a_path_that_cannot_be_used_names_its_option(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    with pytest.raises(ConfigurationError, match=r"^--output_directory: "):
        OutputDirectory(make(tmp_path / "path"), "--output_directory")


def test_a_file_system_without_hard_links_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)

    with pytest.raises(ConfigurationError, match="takes no hard links"):
        OutputDirectory(tmp_path, "--output_directory")


def test_files_of_a_batch_are_named_in_their_order(output: OutputDirectory) -> None:
    numbers = (f"word_{number}.txt" for number in range(100))
    files = [NewFile(numbers, bytes([at]), same_is_saved=False) for at in range(20)]
    output.save(files)

    assert [file.name for file in files] == [f"word_{number}.txt" for number in range(20)]
    assert content(output) == {file.name: file.data for file in files}


def test_a_batch_that_was_refused_may_be_saved_again(
    output: OutputDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = (f"word_{number}.txt" for number in range(100))
    files = [NewFile(numbers, b"the", same_is_saved=False) for _ in range(4)]
    link, links = os.link, []

    def refuse_the_third(*arguments: object, **more: object) -> None:
        links.append(arguments)
        if len(links) == 3:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        link(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", refuse_the_third)
    with pytest.raises(Unavailable, match="quota"):
        output.save(files)
    assert [bool(file.name) for file in files] == [True, True, False, False]
    output.save(files)

    assert len({file.name for file in files}) == len(content(output)) == 4


def test_a_batch_of_which_one_file_does_not_fit_leaves_nothing(
    output: OutputDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write

    def refuse_large(descriptor: int, data: memoryview) -> int:
        if len(data) > 10:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", refuse_large)
    with pytest.raises(Unavailable, match="No space left"):
        output.save([NewFile(["a"], b"small"), NewFile(["b"], b"x" * 20)])

    assert list(output.path.iterdir()) == []
