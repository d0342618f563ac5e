"""Files of other projects that can be downloaded: where they are, and what they must be.

Nothing is bundled. A file with a known sha256 must match it. A data set of which no hash
is known is pinned by the commit in its address: a repository archive carries that commit
as its comment, which is compared. A file appears in the cache whole or not at all.
"""

import hashlib
import os
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from explorer.errors import MissingDataError, UnknownNameError
from explorer.paths import DATA_VARIABLE, user_cache

NETWORK, TASK = "network", "task"


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """One file: its address, its name in the cache, and what tells that it is whole.

    `sha256` where it is known; `archive_commit` of a repository archive; else the file is
    a zip whose members must be whole, or rows of `row_bytes` bytes.
    """

    url: str
    name: str
    sha256: str | None = None
    archive_commit: str | None = None
    row_bytes: int | None = None
    size_bytes: int | None = None

    @property
    def path(self) -> Path:
        """Where the file lies once fetched."""
        return user_cache() / self.name

    def problem(self, path: Path) -> str:
        """Why a file is not the one meant; empty when it is."""
        if self.sha256 is not None:
            same = hashlib.sha256(path.read_bytes()).hexdigest() == self.sha256
            return "" if same else "its sha256 is not the pinned one"
        if self.row_bytes is not None:
            whole = path.stat().st_size and path.stat().st_size % self.row_bytes == 0
            return "" if whole else f"its size is not a multiple of {self.row_bytes} bytes"
        try:
            with zipfile.ZipFile(path) as archive:
                if self.archive_commit and archive.comment.decode() != self.archive_commit:
                    return f"it is not the archive of commit {self.archive_commit}"
                broken = archive.testzip()
        except (zipfile.BadZipFile, ValueError, EOFError) as error:
            return f"it is not a whole zip ({error})"
        return "" if broken is None else f"{broken} in it is broken"


@dataclass(frozen=True, kw_only=True)
class Remote:
    """What `explorer fetch NAME` brings: a network's weights or a task's images."""

    name: str
    kind: str
    repository: str
    commit: str
    licence: str
    files: tuple[RemoteFile, ...]

    @property
    def present(self) -> bool:
        """Whether every file is in the cache."""
        return all(file.path.is_file() for file in self.files)

    @property
    def pinned_by(self) -> str:
        """What tells that the right files come: their sha256, or only the commit."""
        return "sha256" if all(file.sha256 for file in self.files) else "commit"

    @property
    def size_bytes(self) -> int | None:
        """Bytes in the cache; before it is fetched those known to come, else None."""
        if self.present:
            return sum(file.path.stat().st_size for file in self.files)
        sizes = [file.size_bytes for file in self.files]
        return None if None in sizes else sum(size or 0 for size in sizes)


def _network(name: str, sha256: str, size_bytes: int) -> Remote:
    repository, commit = "mit-han-lab/tiny-training", "7bf8e05bbeebda76cbf2ea2dd596dedee7e3f343"
    path = f"algorithm/assets/mcu_models/{name}.pkl"
    file = RemoteFile(
        url=f"https://raw.githubusercontent.com/{repository}/{commit}/{path}",
        name=f"networks/{name}.pkl",
        sha256=sha256,
        size_bytes=size_bytes,
    )
    return Remote(
        name=name,
        kind=NETWORK,
        repository=repository,
        commit=commit,
        licence="MIT",
        files=(file,),
    )


def _archive(name: str, repository: str, commit: str, licence: str) -> Remote:
    """A data set of which the whole repository is fetched."""
    file = RemoteFile(
        url=f"https://github.com/{repository}/archive/{commit}.zip",
        name=f"tasks/{name}-{commit[:12]}.zip",
        archive_commit=commit,
    )
    return Remote(
        name=name, kind=TASK, repository=repository, commit=commit, licence=licence, files=(file,)
    )


def _files(
    name: str,
    repository: str,
    commit: str,
    licence: str,
    paths: tuple[str, ...],
    row_bytes: int | None = None,
) -> Remote:
    """A data set of a few files of a repository."""
    files = tuple(
        RemoteFile(
            url=f"https://raw.githubusercontent.com/{repository}/{commit}/{path}",
            name=f"tasks/{name}-{commit[:12]}-{Path(path).name}",
            row_bytes=row_bytes,
        )
        for path in paths
    )
    return Remote(
        name=name, kind=TASK, repository=repository, commit=commit, licence=licence, files=files
    )


REMOTES = (
    _network(
        "mcunet-5fps", "4de2e06ed39041fc3609de806461a9e1d1f82f186927474bd9e9b0de756a0f00", 1_024_367
    ),
    _network(
        "mbv2-w0.35", "310d2871c50a89af9f11928e28418729984c2e402cf68560a19b6cbb75854163", 617_519
    ),
    _network(
        "proxyless-w0.3",
        "0da06d029506a36e5a5d0822493cdae11f37ba78662f9aca25ba5b3c958cf8e1",
        715_055,
    ),
    _archive(
        "sign-digits",
        "ardamavi/Sign-Language-Digits-Dataset",
        "4b09433ef9d5c60602e8805bb54b8aa2428527f8",
        "Apache-2.0",
    ),
    _archive(
        "trashnet",
        "congduytran12/Trash-Classification-",
        "00212f2c18dcdb9045c74481eaae5baaf72537df",
        "MIT",
    ),
    _archive(
        "caltech-101",
        "MachineLearning2020/Homework2-Caltech101",
        "836044dd000296b2bb74d0aa4b4e462e459b01d7",
        "CC BY 4.0",
    ),
    _archive(
        "blood-cells",
        "Shenggan/BCCD_Dataset",
        "d272fb14cdff6e473fafeeeba32aba5f560e9e43",
        "MIT",
    ),
    _archive(
        "apple-leaf",
        "tran-khanhtrang/plantvillage-applergb",
        "c6e4f2b1d9eabaf8234afc576b10c67df7b1c171",
        "CC BY-SA 3.0",
    ),
    _files(
        "omniglot",
        "brendenlake/omniglot",
        "057f034baf2ecb8530bc5710e5a23584d2a519cc",
        "MIT",
        ("python/images_background_small1.zip", "python/images_background_small2.zip"),
    ),
    _files(
        "quickdraw",
        "CodingTrain/Toy-Neural-Network-JS",
        "8c48c834b025f5943dce343376fa9490329e1e3e",
        "CC BY 4.0",
        tuple(
            f"examples/doodle_classification/data/{name}1000.bin"
            for name in ("cats", "rainbows", "trains")
        ),
        row_bytes=28 * 28,
    ),
)


def remote(name: str) -> Remote:
    """What can be fetched under a name; UnknownNameError offers the nearest."""
    for known in REMOTES:
        if known.name == name:
            return known
    raise UnknownNameError.of("download", name, [known.name for known in REMOTES])


def fetched(name: str) -> tuple[Path, ...] | None:
    """The files of a download where all of them are in the cache, else None.

    Raises MissingDataError when one with a known sha256 has changed since.
    """
    known = next((known for known in REMOTES if known.name == name), None)
    if known is None or not known.present:
        return None
    for file in known.files:
        if file.sha256 is not None and (problem := file.problem(file.path)):
            raise MissingDataError(f"{file.path}: {problem}; get it again: explorer fetch {name}")
    return tuple(file.path for file in known.files)


def fetch(name: str, *, progressbar: bool = False) -> tuple[Path, ...]:
    """Download what is missing under a name; paths of its files.

    Raises MissingDataError, in one sentence, without a network or when a wrong file comes.
    """
    known = remote(name)
    for file in known.files:
        if not file.path.is_file() or file.problem(file.path):
            _download(known, file, progressbar)
    return tuple(file.path for file in known.files)


def _download(known: Remote, file: RemoteFile, progressbar: bool) -> None:
    import pooch

    pooch.get_logger().setLevel("ERROR")
    by_hand = f"where there is no network, bring the data by hand and set {DATA_VARIABLE}"
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.path.parent, prefix=".part-") as staging:
            came = Path(
                pooch.retrieve(
                    file.url,
                    known_hash=file.sha256,
                    fname=file.path.name,
                    path=staging,
                    progressbar=progressbar,
                )
            )
            if problem := file.problem(came):
                raise MissingDataError(f"{known.name}: {file.url} is refused: {problem}")
            os.replace(came, file.path)
    except ValueError:
        raise MissingDataError(
            f"{known.name}: {file.url} is refused: its sha256 is not the pinned one"
        ) from None
    except OSError as error:
        raise MissingDataError(
            f"{known.name}: {file.url} could not be fetched ({_reason(error)}); {by_hand}"
        ) from None


def _reason(error: Exception) -> str:
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server says {response.status_code}"
    return getattr(error, "strerror", None) or f"no connection: {type(error).__name__}"
