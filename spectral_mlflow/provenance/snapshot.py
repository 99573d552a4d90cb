"""The code of a run as it was, with what git would lose and without what nobody else should see."""

from __future__ import annotations

import fnmatch
import gzip
import io
import os
import re
import sys
import sysconfig
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from spectral_mlflow.provenance.repository import git, repository

# Never copied into a snapshot, even where somebody has committed them: files and folders of these names.
SECRET_PATTERNS = (
    "*.env", ".env*", "*.pem", "*.key", "*.p12", "*.pfx", "*.kdbx", "*.keystore", "*credentials*", "*secret*",
    ".netrc", "_netrc", ".pypirc", ".npmrc", ".htpasswd", ".pgpass", ".aws", ".ssh", ".gnupg",
    "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*",
)  # fmt: skip
LARGEST_FILE = 1_000_000
LARGEST_SNAPSHOT = 50_000_000
PLAIN = ("--no-color", "--no-ext-diff", "--no-textconv", "--src-prefix=a/", "--dst-prefix=b/")  # Whoever's git it is.

# Keys and tokens that can be told by their form, wherever somebody has written them; by how they begin.
_TOKENS = {
    b"-----BEGIN": rb"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    rb"(?:[^-]{0,20000}?-----END [A-Z ]*PRIVATE KEY-----|(?:\s*(?:[A-Za-z-]+: [^\n]*|[A-Za-z0-9+/=]{16,})\s*$)*)",
    b"AKIA": rb"\bAKIA[A-Z0-9]{16}\b",
    b"ASIA": rb"\bASIA[A-Z0-9]{16}\b",
    b"gh": rb"\bgh[pousr]_[A-Za-z0-9]{36,}",
    b"github_pat_": rb"\bgithub_pat_\w{22,}",
    b"glpat-": rb"\bglpat-[\w-]{20,}",
    b"hf_": rb"\bhf_[A-Za-z0-9]{30,}",
    b"sk-": rb"\bsk-[\w-]{20,}",
    b"xox": rb"\bxox[abprs]-[\w-]{10,}",
    b"AIza": rb"\bAIza[\w-]{35}",
    b"pypi-": rb"\bpypi-[\w-]{50,}",
    b"://": rb"(?<=://)[^/@:\s\"']+:[^/@\s\"']+(?=@)",
}
_FORMS = {begin: re.compile(form, re.DOTALL | re.MULTILINE) for begin, form in _TOKENS.items()}


def snapshot(directory: Path) -> list[Path]:
    """Write the code: ``code.tar.gz``, the uncommitted changes, the untracked files' names, and what was left out.

    Of a git work tree (`repository`) these are the files that git tracks or would track; of a program outside of it,
    below ``program/``, itself and the modules it has loaded from its own folder. Left out is what git ignores, what
    is named like a secret, what is larger than 1 MB, links, and the folder of the runs. What has the form of a key
    or a token is written as ``***``.

    Args:
        directory: where to write, in the directory of a run; made if missing.

    Returns:
        The files written; none where there is no code to be found.

    Raises:
        OSError: the disk refuses.
    """
    top = repository()
    files = {**(_tracked(top) if top else {}), **_loaded(top)}
    if not files:
        return []
    code, left_out = _archive(files, directory.parent.parent.resolve(), top and top.resolve())
    contents = {"code.tar.gz": code, **(_changes(top) if top else {})}
    if left_out:
        contents["left_out.txt"] = "".join(f"{name}: {why}\n" for name, why in left_out).encode(errors="replace")
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (directory / name).write_bytes(content)
    return [directory / name for name in contents]


def without_tokens(content: bytes) -> bytes:
    """The content with ``***`` for what has the form of a key, a token, or name and password in an address."""
    for begin, form in _FORMS.items():
        if begin in content:  # Much faster than the expression, and nearly always enough.
            content = form.sub(b"***", content)
    return content


def is_secret(name: str) -> bool:
    """Whether a file, or a folder that it is in, is named like a secret."""
    parts = PurePosixPath(name.lower()).parts
    return any(fnmatch.fnmatchcase(part, pattern) for part in parts for pattern in SECRET_PATTERNS)


def _tracked(top: Path) -> dict[str, Path]:
    """Files that git tracks or would track, but those that it was told to ignore."""
    ignored = set(_listed(top, "--cached", "--ignored", "--exclude-standard"))
    listed = _listed(top, "--cached", "--others", "--exclude-standard")
    return {name: top / name for name in sorted(set(listed) - ignored)}


def _listed(top: Path, *options: str) -> list[str]:
    """Names of files, as the file system has them.

    Raises:
        OSError: git does not say, and what it ignores is not known then.
    """
    names = git("ls-files", "-z", *options, folder=top)
    if names is None:
        raise OSError(f"git ls-files does not answer in {top}")
    return [name for name in names.split("\0") if name]


def _loaded(top: Path | None) -> dict[str, Path]:
    """The program and the source files of its folder that this process runs, where it is outside of the work tree."""
    program = Path(getattr(sys.modules["__main__"], "__file__", None) or "").resolve()
    folder = program.parent
    if not program.is_file() or (top and folder.is_relative_to(top)) or _is_installed(program):
        return {}
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = {Path(file).resolve() for file in files if file and file.endswith(".py")}
    own = sorted(path for path in paths if path.is_relative_to(folder) and not _is_installed(path))
    return {f"program/{path.relative_to(folder).as_posix()}": path for path in own}


def _is_installed(path: Path) -> bool:
    """Whether it belongs to Python or to a package that was installed."""
    scripts, library = (Path(sysconfig.get_path(name)).resolve() for name in ("scripts", "stdlib"))
    packaged = {"site-packages", "dist-packages"} & set(path.parts)
    return path.parent == scripts or path.is_relative_to(library) or bool(packaged)


def _archive(files: Mapping[str, Path], runs: Path, top: Path | None) -> tuple[bytes, list[tuple[str, str]]]:
    """The files as they are now, the same bytes for the same files; and what was left out, and why."""
    left_out: list[tuple[str, str]] = []
    packed, room = io.BytesIO(), LARGEST_SNAPSHOT
    with gzip.GzipFile("", "wb", 1, packed, 0) as zipped, tarfile.open(fileobj=zipped, mode="w") as archive:
        for name, path in files.items():
            if _is_of_a_run(path, runs, top) or not (path.is_symlink() or path.exists()):
                continue
            try:
                content = _content(path, name, room)
            except OSError as failure:
                left_out.append((name, failure.strerror or str(failure)))
                continue
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
            room -= len(content)
    return packed.getvalue(), left_out


def _is_of_a_run(path: Path, runs: Path, top: Path | None) -> bool:
    """Whether a file lies in the folder of the runs; where that holds the code too, in one of the runs."""
    folder = path.parent.resolve()
    if not folder.is_relative_to(runs):
        return False
    if top is None or not top.is_relative_to(runs):
        return True
    first = next(iter(folder.relative_to(runs).parts), None)
    return first is not None and (runs / first / "logs" / "events.jsonl").exists()


def _content(path: Path, name: str, room: int) -> bytes:
    """What the archive has of a file.

    Raises:
        OSError: it is left out; the text says why.
    """
    if path.is_symlink():
        raise OSError("a link")
    if path.is_dir():
        raise OSError("a repository of its own")
    if is_secret(name):
        raise OSError("named like a secret")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise OSError(f"{size} bytes, more than {LARGEST_FILE}")
    if size > room:
        raise OSError(f"the snapshot has its {LARGEST_SNAPSHOT} bytes")
    return without_tokens(path.read_bytes())


def _changes(top: Path) -> dict[str, bytes]:
    """The uncommitted diff and the names of untracked files."""
    hidden = [f":(exclude,literal){name}" for name in _listed(top, "--cached", "--ignored", "--exclude-standard")]
    exclude = [*_secret_pathspecs(), *hidden]
    diff = git("diff", *PLAIN, "HEAD", "--", ".", *exclude, folder=top) or ""
    untracked = git("ls-files", "--others", "--exclude-standard", "--", ".", *exclude, folder=top) or ""
    if len(diff) > LARGEST_FILE:
        diff = diff[:LARGEST_FILE] + f"\n[cut: the diff has {len(diff)} characters]"
    lines = {"changes.diff": diff, "untracked.txt": untracked}
    return {name: without_tokens(os.fsencode(f"{text}\n" if text else "")) for name, text in lines.items()}


def _secret_pathspecs() -> Iterator[str]:
    for pattern in SECRET_PATTERNS:
        yield from (f":(exclude,icase,glob)**/{pattern}", f":(exclude,icase,glob)**/{pattern}/**")
