"""A run in one file."""

import json
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spectral_mlflow.errors import UserError
from spectral_mlflow.monitoring import archive

NAME = "wave_20260131_120000_1a2b3c4d"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A directory with what matters to an archive: nested files, an empty one, links, what stays behind."""
    run = tmp_path / "experiments" / NAME
    for path, content in {
        "config.json": b"{}",
        "logs/metrics.jsonl": b'{"step": 1}\n' * 5000,
        "logs/events.jsonl": b"",
        "checkpoints/checkpoint_step_5.pt": bytes(range(256)) * 400,
        "checkpoints/.checkpoint_step_9.pt.77.tmp": b"half",
        "stores/mlflow.json": b"{}",
        ".run.lock": b"",
    }.items():
        (run / path).parent.mkdir(parents=True, exist_ok=True)
        (run / path).write_bytes(content)
    (run / "checkpoints" / "checkpoint_latest.pt").symlink_to("checkpoint_step_5.pt")
    return run


def contents(run: Path) -> dict[str, bytes | str]:
    """Every file and link of a folder."""
    return {
        path.relative_to(run).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in run.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_a_run_comes_back_as_it_was(run: Path, tmp_path: Path) -> None:
    """Every file and link is there again in another home, but what was only true of the old one."""
    written: list[int] = []
    file = archive.export(run, tmp_path / "a.tar", told=written.append)
    back = archive.unpack(file, tmp_path / "elsewhere" / "experiments")
    left_out = {"stores/mlflow.json", ".run.lock", "checkpoints/.checkpoint_step_9.pt.77.tmp"}
    found = contents(back)
    assert b'"event": "import"' in bytes(found.pop("logs/events.jsonl"))
    assert found == {p: what for p, what in contents(run).items() if p not in {*left_out, "logs/events.jsonl"}}
    assert back == tmp_path / "elsewhere" / "experiments" / NAME
    assert sum(written) == archive.size(run)
    assert [path.name for path in back.parent.iterdir()] == [NAME]


def test_links_that_lead_elsewhere_are_stored_as_what_they_lead_to(run: Path, tmp_path: Path) -> None:
    """A link to a file outside becomes the file; one to a folder, or to nothing, is refused with its path."""
    (tmp_path / "outside.txt").write_text("outside")
    (run / "artifacts").mkdir()
    (run / "artifacts" / "link.txt").symlink_to(tmp_path / "outside.txt")
    back = archive.unpack(archive.export(run, tmp_path / "a.tar"), tmp_path / "elsewhere")
    assert not (back / "artifacts" / "link.txt").is_symlink()
    assert (back / "artifacts" / "link.txt").read_text() == "outside"
    (run / "artifacts" / "folder").symlink_to(tmp_path)
    with pytest.raises(UserError, match="artifacts/folder is a link"):
        archive.export(run, tmp_path / "b.tar")
    assert not (tmp_path / "b.tar").exists()


def test_any_tool_opens_an_archive(run: Path, tmp_path: Path) -> None:
    """It is a tar with the files under the name of the run and the manifest last."""
    with tarfile.open(archive.export(run, tmp_path / "a.tar")) as tar:
        *names, last = tar.getnames()
    assert f"{NAME}/checkpoints/checkpoint_step_5.pt" in names
    assert last == archive.MANIFEST


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_archive_makes_no_run(run: Path, tmp_path: Path, data: st.DataObject) -> None:
    """Cut anywhere, or with another byte in a file, it is refused and nothing is left of it."""
    file = tmp_path / "a.tar"
    if not file.exists():
        archive.export(run, file)
    whole = file.read_bytes()
    with tarfile.open(file) as tar:
        member = data.draw(st.sampled_from([member for member in tar.getmembers() if member.size]))
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, member.offset_data + member.size - 1))]
    else:
        place = data.draw(st.integers(member.offset_data, member.offset_data + member.size - 1))
        damaged = whole[:place] + bytes([whole[place] ^ 1 << data.draw(st.integers(0, 7))]) + whole[place + 1 :]
    broken = tmp_path / "broken.tar"
    broken.write_bytes(damaged)
    try:
        same = contents(archive.unpack(broken, tmp_path / "elsewhere"))
    except UserError:
        assert list((tmp_path / "elsewhere").iterdir()) == []
    else:  # A space of the manifest is another byte and the same content; so is what follows its end.
        other = contents(archive.unpack(file, tmp_path / f"other{len(list(tmp_path.iterdir()))}"))
        assert same.keys() == other.keys()
        assert all(same[path] == other[path] for path in same if path != "logs/events.jsonl")
        for path in sorted((tmp_path / "elsewhere").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def crafted(tmp_path: Path, member: tarfile.TarInfo) -> Path:
    """An archive with one member that somebody has made."""
    path = tmp_path / "crafted.tar"
    with tarfile.open(path, "w") as tar:
        tar.addfile(member)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "link"),
    [
        ("../outside.txt", tarfile.REGTYPE, ""),
        ("/outside.txt", tarfile.REGTYPE, ""),
        (f"{NAME}/link", tarfile.SYMTYPE, "/etc/passwd"),
        (f"{NAME}/link", tarfile.SYMTYPE, "../../outside"),
        (f"{NAME}/pipe", tarfile.FIFOTYPE, ""),
        (f"{NAME}/device", tarfile.CHRTYPE, ""),
        (f"{NAME}/hard", tarfile.LNKTYPE, "/etc/passwd"),
    ],
)
def test_nothing_leaves_the_folder(tmp_path: Path, name: str, kind: bytes, link: str) -> None:
    """Paths and links that lead elsewhere, and what is no file at all, are refused."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    with pytest.raises(UserError, match="no whole archive"):
        archive.unpack(crafted(tmp_path, member), tmp_path / "experiments")
    assert not (tmp_path / "outside.txt").exists()
    assert list((tmp_path / "experiments").iterdir()) == []


def test_what_is_there_stays(run: Path, tmp_path: Path) -> None:
    """Neither an archive nor a run directory is ever replaced."""
    file = archive.export(run, tmp_path / "a.tar")
    with pytest.raises(UserError, match="is there already"):
        archive.export(run, file)
    with pytest.raises(UserError, match=f"run {NAME} is in"):
        archive.unpack(file, run.parent)
    assert contents(run)["config.json"] == b"{}"


def test_another_format_is_named(run: Path, tmp_path: Path) -> None:
    """An archive of a version to come says so."""
    file = archive.export(run, tmp_path / "a.tar")
    file.write_bytes(file.read_bytes().replace(b'"format_version": 1', b'"format_version": 2'))
    with pytest.raises(UserError, match="format_version 2; this version reads 1"):
        archive.unpack(file, tmp_path / "elsewhere")


def test_mistakes(run: Path, tmp_path: Path) -> None:
    """No archive, no folder for one, or another file: one line each."""
    with pytest.raises(UserError, match="no archive"):
        archive.unpack(tmp_path / "none.tar", tmp_path / "x")
    with pytest.raises(UserError, match="is no folder"):
        archive.export(run, tmp_path / "none" / "a.tar")
    (tmp_path / "text.tar").write_text(json.dumps({"a": 1}))
    with pytest.raises(UserError, match="no whole archive of a run"):
        archive.unpack(tmp_path / "text.tar", tmp_path / "x")
