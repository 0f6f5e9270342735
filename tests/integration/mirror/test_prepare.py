"""What the init containers do: seeding a volume, installing the program, making folders."""

import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from tests.integration.mirror.support import LONG


def run(program: Path, *arguments: str | Path, **more: object) -> tuple[int, list[str]]:
    """Return the exit code and the lines on stderr; nothing may be printed on stdout."""
    done = subprocess.run(
        [str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LONG,
        check=False,
        **more,  # type: ignore[call-overload]
    )
    assert done.stdout == ""
    return done.returncode, done.stderr.splitlines()


def shape(root: Path) -> dict[str, tuple[str, int, bytes | str]]:
    """Return every name below `root` with its kind, its mode and its content."""
    found: dict[str, tuple[str, int, bytes | str]] = {}
    for path in sorted(root.rglob("*")):
        name, is_ = str(path.relative_to(root)), path.lstat()
        if stat.S_ISLNK(is_.st_mode):
            found[name] = ("link", 0, str(path.readlink()))
        elif path.is_dir():
            found[name] = ("folder", is_.st_mode & 0o7777, "")
        elif path.is_file():
            found[name] = ("file", is_.st_mode & 0o7777, path.read_bytes())
        else:
            found[name] = ("other", 0, "")
    return found


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What an image has below the directory of its log files."""
    root = tmp_path / "image"
    (root / "nginx" / "deep" / "er").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "access.log").write_bytes(b"old line\n")
    (root / "big").write_bytes(os.urandom(300_000))
    (root / "nothing").write_bytes(b"")
    (root / "nginx" / "error.log").write_bytes(b"x")
    (root / "nginx" / "deep" / "er" / "file").write_bytes(b"deep")
    (root / "nginx" / ".hidden").write_bytes(b"hidden")
    (root / "access.log").chmod(0o640)
    (root / "nothing").chmod(0o777)
    (root / "empty").chmod(0o1777)
    (root / "nginx" / "deep").chmod(0o2750)
    (root / "current").symlink_to("access.log")
    (root / "nginx" / "up").symlink_to("../access.log")
    (root / "nginx" / "whole").symlink_to(root / "nginx" / "error.log")
    os.utime(root / "access.log", ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    return root


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    made = tmp_path / "volume"
    made.mkdir()
    return made


@pytest.mark.parametrize("slashes", ["", "/", "///"])
def test_a_tree_is_copied_with_its_modes_times_and_links(
    program: Path, image: Path, volume: Path, slashes: str
) -> None:
    assert run(program, "--seed", f"{image}{slashes}", f"{volume}{slashes}", umask=0o077) == (0, [])
    assert shape(volume) == shape(image)
    assert (volume / "access.log").stat().st_mtime_ns == 1_600_000_000_123_456_789


def test_what_exists_is_not_changed(program: Path, image: Path, volume: Path) -> None:
    (volume / "access.log").write_bytes(b"the app's own")
    (volume / "nginx").mkdir(mode=0o711)
    (volume / "nginx" / "error.log").write_bytes(b"mine")
    (volume / "current").write_bytes(b"a file here")
    before = shape(volume)

    assert run(program, "--seed", image, volume) == (0, [])
    after = shape(volume)
    assert {name: after[name] for name in before} == before
    assert after["nginx/deep/er/file"][2] == b"deep"
    assert run(program, "--seed", image, volume) == (0, [])
    assert shape(volume) == after


@pytest.mark.parametrize(
    "target",
    [
        "/etc/passwd",
        "/dev/stdout",
        "..",
        "../outside",
        "nginx/../../outside",
        "../image-of-another/file",
        "{root}-of-another/file",
        "{root}/../outside",
        "./../outside",
        "//etc/passwd",
    ],
)
def test_a_link_that_leads_out_is_left_out_and_said(
    program: Path, image: Path, volume: Path, target: str
) -> None:
    (image.parent / "outside").write_bytes(b"secret")
    (image / "planted").symlink_to(target.format(root=image))
    code, said = run(program, "--seed", image, volume)

    assert code == 0
    assert said == [
        f"sidetail-mirror: left out, a link that leads out: '{image}/planted'",
    ]
    assert not (volume / "planted").is_symlink()


@pytest.mark.parametrize("target", ["nginx/../access.log", "{root}", "{root}/nginx", ".", "gone"])
def test_a_link_that_stays_inside_is_copied_as_it_is(
    program: Path, image: Path, volume: Path, target: str
) -> None:
    (image / "planted").symlink_to(target.format(root=image))

    assert run(program, "--seed", image, volume) == (0, [])
    assert str((volume / "planted").readlink()) == target.format(root=image)


def test_a_link_planted_in_the_volume_is_not_followed(
    program: Path, image: Path, volume: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_bytes(b"untouched")
    before = shape(outside)
    (volume / "nginx").symlink_to(outside)
    (volume / "big").symlink_to(outside / "victim")
    (volume / ".sidetail-seed").symlink_to(outside / "victim")
    code, said = run(program, "--seed", image, volume)

    assert code == 0
    assert said == [f"sidetail-mirror: left out '{image}/nginx': not a directory"]
    assert shape(outside) == before
    assert (volume / "access.log").read_bytes() == b"old line\n"


def test_what_is_neither_file_nor_folder_is_left_out_and_said(
    program: Path, image: Path, volume: Path
) -> None:
    os.mkfifo(image / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        here = Path.cwd()
        os.chdir(image)  # a socket's path must be short
        try:
            sock.bind("socket")
        finally:
            os.chdir(here)
        code, said = run(program, "--seed", image, volume)

    assert code == 0
    assert sorted(said) == [
        f"sidetail-mirror: left out, neither file nor folder: '{image}/fifo'",
        f"sidetail-mirror: left out, neither file nor folder: '{image}/socket'",
    ]


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_left_out_and_said(
    program: Path, image: Path, volume: Path
) -> None:
    (image / "big").chmod(0)
    (image / "empty").chmod(0)
    code, said = run(program, "--seed", image, volume)
    (image / "empty").chmod(0o700)

    assert code == 0
    assert sorted(said) == [
        f"sidetail-mirror: left out '{image}/big': permission denied",
        f"sidetail-mirror: left out '{image}/empty': permission denied",
    ]


def test_modes_that_would_change_the_user_are_not_copied(
    program: Path, image: Path, volume: Path
) -> None:
    (image / "tool").write_bytes(b"x")
    (image / "tool").chmod(0o6755)
    run(program, "--seed", image, volume)

    assert (volume / "tool").stat().st_mode & 0o7777 == 0o755


def test_a_volume_inside_the_folder_is_not_copied_into_itself(program: Path, image: Path) -> None:
    inside = image / "nginx" / "volume"
    inside.mkdir()
    code, said = run(program, "--seed", image, inside)

    assert code == 0
    assert said == [f"sidetail-mirror: left out, the volume itself: '{inside}'"]
    assert (inside / "access.log").exists()


def test_names_of_any_bytes_are_copied_and_shown_harmlessly(
    program: Path, image: Path, volume: Path
) -> None:
    odd = os.fsdecode(b"new\nline \xff\x1b[31m" + b"l" * 200)
    (image / odd).write_bytes(b"odd")
    (image / f"{odd[:40]}-link").symlink_to("/etc")
    code, said = run(program, "--seed", image, volume, encoding="latin-1")

    assert (volume / odd).read_bytes() == b"odd"
    assert code == 0
    assert len(said) == 1
    assert "\x1b" not in said[0]


def test_a_tree_that_is_too_deep_is_cut_and_said(program: Path, image: Path, volume: Path) -> None:
    deep = image
    for _ in range(80):
        deep /= "d"
        deep.mkdir()
    code, said = run(program, "--seed", image, volume)

    assert code == 0
    assert len(said) == 1
    assert said[0].startswith("sidetail-mirror: left out, too deep: ")


def test_a_large_folder_is_copied_whole(program: Path, tmp_path: Path, volume: Path) -> None:
    source = tmp_path / "many"
    source.mkdir()
    for number in range(600):
        (source / f"{number:0200}").write_bytes(b"%d" % number)

    assert run(program, "--seed", source, volume) == (0, [])
    assert shape(volume) == shape(source)


def test_several_folders_are_copied_and_one_that_fails_fails_no_other(
    program: Path, image: Path, volume: Path, tmp_path: Path
) -> None:
    second = tmp_path / "second"
    second.mkdir()
    pairs = [image / "nginx" / "deep", second, image / "missing", volume, image, volume]
    code, said = run(program, "--seed", *pairs)

    assert (code, len(said)) == (0, 1)
    assert "nothing copied from" in said[0]
    assert shape(second) == shape(image / "nginx" / "deep")
    assert shape(volume) == shape(image)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("{}/missing", "{}/volume"), "nothing copied from"),
        (("{}/image", "{}/missing"), "nothing copied to"),
        (("{}/image/access.log", "{}/volume"), "nothing copied from"),
        ((), "usage: "),
        (("{}/image",), "usage: "),
        (("a", "b", "c"), "usage: "),
    ],
)
def test_seeding_never_fails(
    program: Path, image: Path, volume: Path, arguments: tuple[str, ...], words: str
) -> None:
    code, said = run(program, "--seed", *(word.format(image.parent) for word in arguments))

    assert code == 0
    assert words in said[0]


def test_the_program_installs_itself(program: Path, tmp_path: Path) -> None:
    target = tmp_path / "sidetail-mirror"

    for _ in range(2):
        assert run(program, "--init", "--install", target, umask=0o077) == (0, [])
        assert target.stat().st_mode & 0o7777 == 0o555
        assert target.read_bytes() == program.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["sidetail-mirror"]
    done = subprocess.run(
        [target, "--file", tmp_path / "log", "--", "/bin/sh", "-c", "exit 5"],
        check=False, timeout=LONG,
    )  # fmt: skip
    assert done.returncode == 5


def test_an_installed_program_may_be_replaced_while_it_runs(program: Path, tmp_path: Path) -> None:
    target = tmp_path / "sidetail-mirror"
    run(program, "--init", "--install", target)
    with subprocess.Popen(
        [target, "--file", tmp_path / "log", "--", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as running:
        assert run(program, "--init", "--install", target) == (0, [])
        assert run(target, "--init", "--install", target) == (0, [])
        assert running.communicate(b"still here", timeout=LONG)[0] == b"still here"


def test_a_link_at_the_target_is_replaced_and_not_followed(program: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"untouched")
    (tmp_path / "target").symlink_to(victim)
    (tmp_path / "target.new").symlink_to(victim)

    assert run(program, "--init", "--install", tmp_path / "target") == (0, [])
    assert victim.read_bytes() == b"untouched"
    assert not (tmp_path / "target").is_symlink()


@pytest.mark.parametrize("target", ["missing/target", "folder", "file/target"])
def test_only_an_installation_that_failed_fails(program: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")
    code, said = run(
        program, "--init", "--install", tmp_path / target, "--mkdir", tmp_path / "made"
    )

    assert code == 1
    assert said[0].startswith(f"sidetail-mirror: cannot install '{tmp_path / target}': ")
    assert (tmp_path / "made").is_dir(), "the rest is done all the same"
    assert not list(tmp_path.glob("**/*.new"))


def test_folders_are_made_with_their_parents_for_everybody(program: Path, tmp_path: Path) -> None:
    wanted = [tmp_path / "a" / "b" / "c", tmp_path / "a" / "d", tmp_path / "e"]
    arguments = [word for path in wanted for word in ("--mkdir", f"{path}/")]

    for _ in range(2):
        assert run(program, "--init", *arguments, umask=0o777) == (0, [])
        for path in [*wanted, tmp_path / "a", tmp_path / "a" / "b"]:
            assert path.stat().st_mode & 0o7777 == 0o777


def test_a_folder_that_exists_keeps_its_mode_and_owner(program: Path, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir(mode=0o750)
    (tmp_path / "there" / "file").write_bytes(b"x")
    before = (tmp_path / "there").stat()

    assert run(program, "--init", "--mkdir", tmp_path / "there") == (0, [])
    after = (tmp_path / "there").stat()
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (
        before.st_mode, before.st_uid, before.st_mtime_ns,
    )  # fmt: skip


@pytest.mark.parametrize("below", ["", "/app", "/app/deeper"])
def test_no_link_is_walked_through(program: Path, tmp_path: Path, below: str) -> None:
    outside, logs = tmp_path / "outside", tmp_path / "logs"
    outside.mkdir()
    logs.mkdir()
    (logs / "sub").symlink_to(outside)
    before = outside.stat()
    code, said = run(program, "--init", "--mkdir", f"{logs}/sub{below}", "--mkdir", logs / "other")

    assert code == 0
    assert said == [f"sidetail-mirror: cannot make '{logs}/sub{below}': not a directory"]
    assert list(outside.iterdir()) == []
    assert outside.stat() == before
    assert (logs / "other").is_dir()


@pytest.mark.parametrize(
    "path", ["../up", "a/../../up", "file", "file/below", "a/" + "n" * 300, "a" * 5000]
)
def test_a_folder_that_cannot_be_made_is_said(program: Path, tmp_path: Path, path: str) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "file").write_bytes(b"")
    code, said = run(program, "--init", "--mkdir", path, cwd=tmp_path / "work")

    assert code == 0
    assert said[0].startswith("sidetail-mirror: cannot make '")
    assert not (tmp_path / "up").exists()


def test_a_relative_folder_is_meant_from_the_working_folder(program: Path, tmp_path: Path) -> None:
    assert run(program, "--init", "--mkdir", "./a//b/.", cwd=tmp_path) == (0, [])
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize(
    "arguments", [("--install",), ("--mkdir",), ("--other", "x"), ("x",), ("--mkdir", "a", "b")]
)
def test_a_wrong_use_of_init_is_said(
    program: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    code, said = run(program, "--init", *arguments, cwd=tmp_path)

    assert code == 2
    assert "expected --install PATH or --mkdir DIR, got" in said[0]


def test_nothing_to_do_is_done(program: Path) -> None:
    assert run(program, "--init") == (0, [])


def test_folders_made_at_once_by_many_are_made_once(program: Path, tmp_path: Path) -> None:
    target = tmp_path / "/".join("abcdefgh")
    many = [
        subprocess.Popen([program, "--init", "--mkdir", target], stderr=subprocess.PIPE)
        for _ in range(8)
    ]
    said = [one.communicate(timeout=LONG)[1] for one in many]

    assert [one.returncode for one in many] == [0] * 8
    assert said == [b""] * 8
    assert target.is_dir()
