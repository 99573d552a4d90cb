"""A run in one file: exported from one home, proved and imported into another.

The archive is a tar of the run directory, so that any tool opens it. Its last member is the manifest,
which names every file with its size and sha256: an archive that was cut has none, and one in which a
byte has changed disagrees with it. What a store knows of the run stays behind, since it is not true
of another store.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import socket
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO

from spectral_mlflow import journal
from spectral_mlflow.config import without_password
from spectral_mlflow.errors import UserError
from spectral_mlflow.files import sync_directory, whole_file
from spectral_mlflow.journal import Journal
from spectral_mlflow.monitoring import compression
from spectral_mlflow.monitoring.runs import changed_settings
from spectral_mlflow.monitoring.seal import DamagedCheckpointError

SUFFIX = ".spectral.tar"
MANIFEST = "manifest.json"
FORMAT_VERSION = 1

CHECKPOINT = re.compile(r"checkpoint_step_\d+\.pt")
LEFT_OUT = ("stores", ".run.lock")  # True of the old home alone.

Told = Callable[[int], object]
Manifest = dict[str, dict[str, str | int]]


def size(run_dir: Path) -> int:
    """Bytes that an archive of the run holds, about."""
    return sum(path.stat().st_size for path in _files(run_dir) if not path.is_symlink())


def export(run_dir: Path, target: Path, *, compress: bool = False, told: Told = lambda _: None) -> Path:
    """Write a run into one file: there whole and durable, or not at all.

    Args:
        run_dir: the run; nobody may write it meanwhile.
        target: the archive; must not be there yet.
        compress: whether checkpoints become smaller on their way.
        told: called with the number of bytes of each piece that is written.

    Raises:
        UserError: the target is there already, its folder is not, or compressing takes a package that is missing.
        OSError: the disk refuses; nothing is left behind.
    """
    if target.exists():
        raise UserError(f"{target} is there already; remove it, or give another file")
    if not target.parent.is_dir():
        raise UserError(f"{target.parent} is no folder; make it, or give a file in another one")
    with whole_file(target) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        _add_all(tar, run_dir, told, compress=compress)
    return target


def unpack(archive: Path, base: Path, *, tracking_uri: str | None = None, told: Told = lambda _: None) -> Path:
    """Make the run directory of an archive again, and note in its events where it has come from.

    Args:
        archive: as `export` has written it.
        base: folder of run directories.
        tracking_uri: the store that the run belongs to from now on; None: as before.
        told: called with the number of bytes of each piece that is read.

    Returns:
        The run directory, complete and proved.

    Raises:
        UserError: not an archive of a run, a damaged one, or a run that is there already.
        OSError: the disk refuses; nothing is left behind.
    """
    if not archive.is_file():
        raise UserError(f"no archive {archive}; spectral export makes one")
    base.mkdir(parents=True, exist_ok=True)
    temporary = base / f".import.{os.getpid()}"
    try:
        temporary.mkdir()
        name = _extract_proved(archive, temporary, told)
        if (base / name).exists():
            raise UserError(f"run {name} is in {base} already; delete it, or import into another SPECTRAL_HOME")
        _unpack_checkpoints(temporary / name)
        _note(temporary / name, archive, tracking_uri)
        _sync_all(temporary / name)
        (temporary / name).rename(base / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    sync_directory(base)
    return base / name


# Writing


def _files(run_dir: Path) -> Iterator[Path]:
    """Files and links of a run, in order; nothing of which is only half there."""
    for path in sorted(run_dir.rglob("*")):
        inside = path.relative_to(run_dir)
        if inside.parts[0] not in LEFT_OUT and path.suffix != ".tmp" and (path.is_symlink() or path.is_file()):
            yield path


def _add_all(tar: tarfile.TarFile, run_dir: Path, told: Told, *, compress: bool) -> None:
    manifest: Manifest = {}
    for path in _files(run_dir):
        inside = path.relative_to(run_dir).as_posix()
        with _packed(path, Path(str(tar.name)).parent) if compress else nullcontext(path) as source:
            inside += source.suffix if source != path else ""
            digest = _add(tar, source, f"{run_dir.name}/{inside}", told)
            if digest is not None:
                manifest[inside] = digest
    content = {"format_version": FORMAT_VERSION, "run": run_dir.name, "files": manifest}
    text = json.dumps(content, indent=1).encode()
    info = tarfile.TarInfo(MANIFEST)
    info.size = len(text)
    tar.addfile(info, io.BytesIO(text))


@contextmanager
def _packed(path: Path, folder: Path) -> Iterator[Path]:
    """A checkpoint as a smaller file, made in a folder for as long as it is needed; any other file as it is."""
    if path.is_symlink() or not CHECKPOINT.fullmatch(path.name):
        yield path
        return
    with TemporaryDirectory(prefix=".export.", dir=folder) as scratch:
        smaller = Path(scratch) / (path.name + compression.SUFFIX)
        try:
            compression.compress_checkpoint(path, smaller)
        except DamagedCheckpointError:
            smaller = path  # As it is: whoever looks for it finds it damaged there too.
        yield smaller


def _leads_beside(link: Path) -> bool:
    """Whether a link names a file in its own folder."""
    return len(link.readlink().parts) == 1


def _add(tar: tarfile.TarFile, path: Path, name: str, told: Told) -> dict[str, str | int] | None:
    """Add a file or a link; returns the size and digest of a file."""
    if path.is_symlink() and not _leads_beside(path):
        path = path.resolve()  # Its content: elsewhere the link would lead to nothing, or to something else.
        if not path.is_file():
            raise UserError(f"{name} is a link to {path}, which is no file; remove it, or put a copy there")
    info = tar.gettarinfo(path, name)
    info.uid, info.gid, info.uname, info.gname = 0, 0, "", ""
    if info.issym():
        tar.addfile(info)
        return None
    info.type, info.linkname = tarfile.REGTYPE, ""  # A hard link, to a file that is perhaps not in the archive.
    with path.open("rb") as file:
        info.size = os.fstat(file.fileno()).st_size
        passing = _Passing(file, told)
        tar.addfile(info, passing)
    return {"bytes": info.size, "sha256": passing.digest.hexdigest()}


class _Passing(io.RawIOBase):
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes], told: Told) -> None:
        self._file = file
        self._told = told
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self.digest.update(block)
        self._told(len(block))
        return block


# Reading


def _extract_proved(archive: Path, folder: Path, told: Told) -> str:
    try:
        with tarfile.open(archive, "r:") as tar:
            found = _extract_all(tar, folder, told)
            manifest = json.loads((folder / MANIFEST).read_bytes())
        name, wanted = str(manifest["run"]), dict(manifest["files"])
    except (tarfile.TarError, EOFError, ValueError, KeyError, TypeError, FileNotFoundError) as failure:
        raise UserError(f"{archive}: no whole archive of a run ({type(failure).__name__}); export it again") from None
    if manifest.get("format_version") != FORMAT_VERSION:
        raise UserError(
            f"{archive}: has format_version {manifest.get('format_version')}; this version reads {FORMAT_VERSION}"
        )
    wanted = {f"{name}/{inside}": about for inside, about in wanted.items()}
    changed = [path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path)]
    if changed or not (folder / name / "config.json").is_file():
        raise UserError(f"{archive}: damaged ({sorted(changed)[0] if changed else 'no config.json'}); export it again")
    return name


def _extract_all(tar: tarfile.TarFile, folder: Path, told: Told) -> Manifest:
    """Extract what may be in an archive of ours; the standard library's filter refuses what leads out of it."""
    found: Manifest = {}
    for member in tar:
        if not (member.isreg() or (member.issym() and len(PurePosixPath(member.linkname).parts) == 1)):
            raise tarfile.ReadError(f"{member.name} is neither a file nor a link beside it")
        tar.extract(member, folder, filter="data")
        told(member.size)
        if member.isreg() and member.name != MANIFEST:
            with (folder / member.name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[str(PurePosixPath(member.name))] = {"bytes": member.size, "sha256": digest}
    return found


def _unpack_checkpoints(run_dir: Path) -> None:
    for path in (run_dir / "checkpoints").glob(f"*{compression.SUFFIX}"):
        compression.decompress_checkpoint(path, path.with_suffix(""))
        path.unlink()


def _note(run_dir: Path, archive: Path, tracking_uri: str | None) -> None:
    told = journal.records(run_dir / "logs" / "events.jsonl")
    begun = (told[0].get("stores") if told else None) or []
    others = [store for store in changed_settings(told).get("monitoring.stores") or begun if store != "mlflow"]
    moved = {} if tracking_uri is None else {
        "stores": ["mlflow", *others], "tracking_uri": without_password(tracking_uri), "mlflow_run_id": None,
    }  # fmt: skip
    events = Journal(run_dir / "logs" / "events.jsonl")
    events.append(
        {"event": "import", "timestamp": journal.now(), "archive": archive.name, "host": socket.gethostname(), **moved}
    )
    events.close()


def _sync_all(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            sync_directory(path)
        elif not path.is_symlink():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_directory(folder)
