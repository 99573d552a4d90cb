"""A LaTeX bundle of a document, for arXiv or a conference: source, figures and references in one folder.

The LaTeX source is meant for people to go on with: LaTeX counts sections, equations, figures and tables, and ends
with the numbers of the Markdown.
"""

from __future__ import annotations

import gzip
import io
import re
import shutil
import subprocess
import tarfile
import unicodedata
from pathlib import Path

from spectral_mlflow.errors import UserError
from spectral_mlflow.files import replace_file
from spectral_mlflow.paper.bibliography import REFERENCES, load, work
from spectral_mlflow.paper.characters import declarations
from spectral_mlflow.paper.markdown import TEMPLATES
from spectral_mlflow.paper.render import FILTERS, READER
from spectral_mlflow.paper.tools import import_typst, pandoc

# Venues with the file name of their official style (none for arXiv), and how much a line holds, as for `LAYOUTS`.
VENUES: dict[str, dict[str, str]] = {
    "arxiv": {"capacity": "82"},
    "neurips": {"capacity": "70", "official": "neurips_{year}.sty"},
    "icml": {"capacity": "42", "fullcapacity": "88", "twocolumn": "true", "official": "icml{year}.sty"},
}
YEARS = range(2035, 2017, -1)
README = "Compile with `pdflatex main && pdflatex main`; main.bbl is there already, so BibTeX is not needed.\n"

_ASIS = {".pdf", ".png", ".jpg", ".jpeg"}  # What pdflatex reads itself.


def bundle(markdown_file: Path, template: str, output_dir: Path) -> Path:
    """Write the LaTeX bundle of a document.

    Returns:
        The folder ``OUTPUT/latex/TEMPLATE``; ``OUTPUT/latex/TEMPLATE.tar.gz`` beside it is for upload.

    Raises:
        PdfToolsMissing: pandoc or typst is not there.
        UserError: no such document or template, a figure or a cited work that is missing, or a folder that
            cannot be written.
    """
    return LatexRenderer(output_dir, template).render(markdown_file)


class LatexRenderer:
    """Writes documents as LaTeX in the layout of a venue.

    Attributes:
        output_dir: folder in which ``latex/TEMPLATE`` is written, and where the official style of a venue is
            looked for, before the installed TeX.
        template: arxiv, neurips or icml.
        notices: what the last bundle lacks, each in one sentence.
    """

    def __init__(self, output_dir: str | Path, template: str = "arxiv") -> None:
        if template not in VENUES:
            raise UserError(f"--template: given {template!r}; allowed: {', '.join(VENUES)}")
        self.output_dir = Path(output_dir)
        self.template = template
        self.notices: list[str] = []

    def render(self, markdown_file: str | Path) -> Path:
        """Write the bundle of a document; see `bundle`."""
        document = Path(markdown_file).absolute()
        if not document.is_file():
            raise UserError(f"{document} does not exist; give a Markdown file")
        self.notices = []
        files = self._files(document)
        folder = self.output_dir / "latex" / self.template
        try:
            shutil.rmtree(folder / "figures", ignore_errors=True)
            for name, content in files.items():
                replace_file(folder / name, content, durable=False)
            replace_file(folder.with_name(f"{self.template}.tar.gz"), archive(files))
        except OSError as failure:
            raise UserError(f"{folder} cannot be written ({failure.strerror}); give an --output that can") from failure
        return folder

    def _files(self, document: Path) -> dict[str, bytes]:
        """Everything in the bundle: path in it to content."""
        text = document.read_text(encoding="utf-8")
        style = self._style()
        source = self._source(text, document.parent, style)
        files = {"main.tex": source.encode(), "README": README.encode()}
        cited = re.findall(r'<a id="ref-([^"]+)"></a>', text)
        if cited:
            files["references.bib"] = REFERENCES.read_bytes()
            files["main.bbl"] = bbl(cited).encode()
        if style is not None:
            files[style.name] = style.read_bytes()
        for path in re.findall(r"\\includegraphics\[[^]]*\]\{([^}]+)\}", source):
            files[path] = figure(document.parent, path)
        return files

    def _source(self, text: str, folder: Path, style: Path | None) -> str:
        settings = {name: value for name, value in VENUES[self.template].items() if name != "official"}
        official = [f"--variable=style={style.stem}"] if style is not None else []  # Metadata would be escaped.
        declared, unknown = declarations(text)
        self.notices += [f"pdflatex has no {_described(letter)}; its code is shown instead" for letter in unknown]
        source = pandoc(
            text,
            f"--from={READER}",
            "--to=latex",
            "--wrap=none",
            *(f"--lua-filter={TEMPLATES / name}.lua" for name in (*FILTERS, "latex")),
            f"--template={TEMPLATES / self.template}.tex",
            *(f"--metadata={name}={value}" for name, value in settings.items()),
            *(f"--variable=characters={line}" for line in declared),
            *official,
            folder=folder,
        )
        # An equation belongs to the paragraph before it, and often to the one after it.
        source = re.sub(r"\n\n(\\begin\{equation\})", r"\n\1", source)
        return re.sub(r"(\\end\{equation\})\n\n(?=[a-z])", r"\1\n", source)

    def _style(self) -> Path | None:
        """The newest official style that the user has."""
        pattern = VENUES[self.template].get("official")
        if pattern is None:
            return None
        names = [pattern.format(year=year) for year in YEARS]
        found = [self.output_dir / name for name in names if (self.output_dir / name).is_file()] or _installed(names)
        if not found:
            self.notices.append(
                f"no official style of {self.template}: the LaTeX has a layout that looks alike; put "
                f"{pattern.format(year='YEAR')} of the conference into {self.output_dir} for the official one"
            )
        return found[0] if found else None


def bbl(keys: list[str]) -> str:
    """The list of references as BibTeX would write it for natbib, of these works in this order.

    Raises:
        PdfToolsMissing: pandoc is not there.
        UserError: the bibliography has no such work.
    """
    works = [work(key, load()) for key in keys]
    entries = pandoc("\n\n".join(one.entry for one in works), f"--from={READER}", "--to=latex", "--wrap=none")
    items = [
        f"\\bibitem[{{{_tex(one.authors_short)}}}({one.year})]{{{one.key}}}\n{entry}"
        for one, entry in zip(works, entries.strip().split("\n\n"), strict=True)
    ]
    return f"\\begin{{thebibliography}}{{{len(works)}}}\n\n" + "\n\n".join(items) + "\n\n\\end{thebibliography}\n"


def figure(folder: Path, path: str) -> bytes:
    """A figure as pdflatex reads it: the file itself if it is there, else a drawing of the same name as PDF.

    Raises:
        PdfToolsMissing: typst is not there.
        UserError: no such figure.
    """
    given = folder / path
    if given.is_file() and given.suffix in _ASIS:
        return given.read_bytes()
    drawing = next(
        (file for suffix in (".svg", ".gif", ".webp") if (file := given.with_suffix(suffix)).is_file()), None
    )
    if drawing is None:
        raise UserError(f"{given} does not exist; the document names a figure that was not drawn")
    page = f'#set document(date: none)\n#set page(width: auto, height: auto, margin: 0pt)\n#image("{drawing.name}")'
    typst = import_typst()
    try:
        return bytes(typst.compile(page.encode(), root=str(drawing.parent), ignore_system_fonts=True, format="pdf"))
    except typst.TypstError as failure:
        raise UserError(f"{drawing} cannot be drawn: {failure.message}") from failure


def archive(files: dict[str, bytes]) -> bytes:
    """Files as tar.gz, with the same bytes for the same files."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as tar,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(name)
            entry.size = len(files[name])
            tar.addfile(entry, io.BytesIO(files[name]))
    return packed.getvalue()


def _installed(names: list[str]) -> list[Path]:
    """Those of the files that the installed TeX has, in this order."""
    program = shutil.which("kpsewhich")
    if program is None:
        return []
    done = subprocess.run([program, *names], capture_output=True, text=True, check=False)  # noqa: S603 - whichever TeX the user has
    found = {Path(line).name: Path(line) for line in done.stdout.splitlines()}
    return [found[name] for name in names if name in found]


def _tex(names: str) -> str:
    return names.replace("et al.", "et~al.").replace("&", r"\&")


def _described(letter: str) -> str:
    return f"U+{ord(letter):04X} {unicodedata.name(letter, 'character')}"
