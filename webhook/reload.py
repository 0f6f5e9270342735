"""Files that are read again when they change: the operator config, certificates, the client CA.

A notification is the hint, a look every few seconds the truth (design D5): a kubelet swaps a
mounted ConfigMap by a link, an editor by a rename, and a node may be out of inotify instances.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.logs import Seldom
from runtime.settings import Problem, SettingsError
from runtime.stop import Stop
from webhook.metrics import Metrics
from webhook.settings import DEFAULT_CONFIG, MAX_CONFIG_BYTES, OperatorConfig, load_operator_config
from webhook.tls import Certificates

_log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0
_STEP_MILLISECONDS = 200
"""So often watchfiles wakes up: it sleeps in steps whether anything happens or not."""
_MAX_PEM_BYTES = 1024 * 1024


class ConfigFile:
    """The operator config in force; one that cannot be used changes nothing."""

    def __init__(self, path: Path | None, metrics: Metrics) -> None:
        self.config: OperatorConfig = DEFAULT_CONFIG
        self.paths: tuple[Path, ...] = (path,) if path is not None else ()
        self._path = path
        self._metrics = metrics
        self._seen: bytes | None = None

    def load(self) -> None:
        """Read it for the first time.

        Raises:
            SettingsError: it cannot be read, or has problems.
        """
        if self._path is not None:
            self._seen = _read(self._path, MAX_CONFIG_BYTES, "--config")
            self.config = _parsed(self._seen)

    def refresh(self) -> None:
        """Take it if it has changed and can be used; else keep the last good one and say so."""
        if self._path is None:
            return
        try:
            content = _read(self._path, MAX_CONFIG_BYTES, "--config")
        except SettingsError as error:
            if self._seen is not None:
                self._seen = None
                self._refuse(error)
            return
        if content == self._seen:
            return
        self._seen = content
        try:
            self.config = _parsed(content)
        except SettingsError as error:
            self._refuse(error)
            return
        self._metrics.config_loaded("taken")
        _log.info("the operator config was taken", extra={"fields": {"bytes": len(content)}})

    def _refuse(self, error: SettingsError) -> None:
        self._metrics.config_loaded("refused")
        _log.error(
            "the operator config cannot be used; the last good one stays in force",
            extra={"fields": {"problems": [str(problem) for problem in error.problems]}},
        )


class CertificateFiles:
    """A pair of PEM files, offered to the server whenever they have changed."""

    def __init__(self, cert: Path, key: Path, certificates: Certificates) -> None:
        self.paths = (cert, key)
        self._certificates = certificates
        self._seen: tuple[bytes, bytes] | None = None
        self._is_in_force = False
        """Whether what was seen last is served."""
        self._seldom = Seldom()

    def load(self) -> None:
        """Offer the pair for the first time; one that is not good yet is waited for.

        Raises:
            SettingsError: a file cannot be read.
        """
        self._offer(self._read())

    def refresh(self) -> None:
        """Offer the pair if it has changed, or was not good, as one may become valid later."""
        try:
            pair = self._read()
        except SettingsError as error:
            self._complain(str(error))
            return
        if pair != self._seen or not self._is_in_force:
            self._offer(pair)

    def _read(self) -> tuple[bytes, bytes]:
        cert, key = self.paths
        return _read(cert, _MAX_PEM_BYTES, "--cert-file"), _read(key, _MAX_PEM_BYTES, "--key-file")

    def _offer(self, pair: tuple[bytes, bytes]) -> None:
        is_new, self._seen = pair != self._seen, pair
        refused = self._certificates.offer(*pair)
        self._is_in_force = refused is None
        if refused is not None:
            self._complain(refused, is_new=is_new)
            return
        self._seldom.over("pair")
        _log.info(
            "a serving certificate is in force",
            extra={"fields": {"not_after": self._certificates.not_after}},
        )

    def _complain(self, error: str, *, is_new: bool = False) -> None:
        if self._seldom.due("pair") or is_new:
            _log.error(
                "the serving certificate cannot be used; the last good one stays in force",
                extra={"fields": {"error": error}},
            )


class ClientCaFile:
    """The CAs of the clients that are let in; none that can be used changes nothing."""

    def __init__(self, path: Path | None, certificates: Certificates) -> None:
        self.paths: tuple[Path, ...] = (path,) if path is not None else ()
        self._path = path
        self._certificates = certificates
        self._seen: bytes | None = None

    def load(self) -> None:
        """Read it for the first time.

        Raises:
            SettingsError: it cannot be read, or holds no CA certificate.
        """
        if self._path is not None:
            self._require(_read(self._path, _MAX_PEM_BYTES, "--client-ca"))

    def refresh(self) -> None:
        """Take it if it has changed and can be used; else keep the last good one and say so."""
        if self._path is None:
            return
        content: bytes | None = None
        try:
            content = _read(self._path, _MAX_PEM_BYTES, "--client-ca")
            if content != self._seen:
                self._require(content)
                _log.info("the client CA was taken", extra={"fields": {"bytes": len(content)}})
        except SettingsError as error:
            if content != self._seen:
                _log.error(
                    "the client CA cannot be used; the last good one stays in force",
                    extra={"fields": {"problem": str(error)}},
                )
        self._seen = content

    def _require(self, content: bytes) -> None:
        refused = self._certificates.require(content)
        if refused is not None:
            raise SettingsError([Problem("--client-ca", refused, "CA certificates in PEM")])
        self._seen = content


def follow_files(
    paths: Sequence[Path],
    refresh: Callable[[], None],
    stop: Stop,
    *,
    look_seconds: float = LOOK_SECONDS,
) -> None:
    """Call `refresh` when one of `paths` may have changed, until stop is asked.

    The body of a thread. `refresh` looks for itself whether something has.
    """
    while not stop.asked:
        try:
            _follow_notices(paths, refresh, stop, look_seconds)
        except (OSError, RuntimeError) as error:
            # A folder is gone, or the node has no inotify instance left.
            _log.debug(
                "files are looked at from time to time", extra={"fields": {"error": str(error)}}
            )
        stop.wait(look_seconds)
        refresh()


def _follow_notices(
    paths: Sequence[Path], refresh: Callable[[], None], stop: Stop, look_seconds: float
) -> None:
    import watchfiles

    # It says every change of every file in the folder; we say what came of ours.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    folders = {path.absolute().parent for path in paths}
    for _ in watchfiles.watch(
        *(folder for folder in folders if folder.is_dir()),
        watch_filter=None,
        recursive=False,
        step=_STEP_MILLISECONDS,
        debounce=2 * _STEP_MILLISECONDS,
        rust_timeout=int(look_seconds * 1000),
        yield_on_timeout=True,
        raise_interrupt=False,
    ):
        refresh()
        if stop.asked:
            return


def _read(path: Path, most: int, flag: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise SettingsError(
            [Problem(flag, f"{str(path)!r} ({error.strerror})", "a file that can be read")]
        ) from error
    if len(content) > most:
        raise SettingsError([Problem(flag, "a larger file", f"at most {most} bytes")])
    return content


def _parsed(content: bytes) -> OperatorConfig:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise SettingsError(
            [Problem("--config", "bytes that are not UTF-8", "YAML or JSON")]
        ) from None
    return load_operator_config(text)
