"""`python -m sidecar`: reads its settings, starts the pipeline, and stops it as it was told."""

import argparse
import os
import sys
from collections.abc import Mapping

from contract import VERSION
from contract.sidecar_config import CONFIG_ENV
from runtime.settings import Problem, SettingsError
from sidecar.settings import Settings, read_settings

EXIT_DONE = 0
EXIT_LEFT_BEHIND = 1
EXIT_SETTINGS = 2
EXIT_STATE_IN_USE = 3


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run the sidecar; return the exit status.

    0: everything that was asked is done. 1: lines were left behind. 2: wrong settings.
    3: another process uses the state folder.
    """
    options = _parser().parse_args(arguments)
    try:
        settings, problems = _read(options, environ)
    except SettingsError as error:
        for problem in error.problems:
            sys.stderr.write(f"sidetail: {problem}\n")
        return EXIT_SETTINGS
    if options.check:
        sys.stderr.write(
            f"sidetail: the configuration is right: {len(settings.sources)} sources, "
            f"{len(settings.backends)} backends\n"
        )
        return EXIT_DONE
    from sidecar.process import run  # --check pays for none of it

    return run(
        settings,
        problems,
        until_eof=options.until_eof,
        keep_running=options.keep_running,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sidecar",
        # Without a width argparse imports shutil, and that every compressor, to ask for one.
        formatter_class=lambda prog: argparse.HelpFormatter(prog, width=100),
        description="Follow log files and send every line to the backends, at least once.",
        epilog=f"Without --config the document is read from ${CONFIG_ENV}. Exit status: 0 done, "
        "1 lines were left behind, 2 wrong settings, 3 the state folder is in use.",
    )
    parser.add_argument("--config", metavar="FILE", help="the configuration, YAML or JSON")
    parser.add_argument("--check", action="store_true", help="validate the configuration and exit")
    parser.add_argument(
        "--until-eof", action="store_true", help="send what is there, then exit instead of waiting"
    )
    parser.add_argument(
        "--keep-running",
        action="store_true",
        help="leave out what is wrong with configuration, state or volumes, and go on",
    )
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


def _read(
    options: argparse.Namespace, environ: Mapping[str, str]
) -> tuple[Settings, list[Problem]]:
    """Return the settings and their problems.

    With --keep-running a missing document is an empty one. With --check nothing is forgiven.

    Raises:
        SettingsError: without --keep-running.
    """
    keep_running = options.keep_running and not options.check
    missing: list[Problem] = []
    text = environ.get(CONFIG_ENV, "")
    if options.config is not None:
        try:
            with open(options.config, encoding="utf-8") as file:
                text = file.read()
        except (OSError, UnicodeDecodeError) as error:
            missing.append(Problem("--config", repr(options.config), f"a readable file: {error}"))
    elif not text:
        missing.append(Problem("--config", "nothing", f"a file, or the document in {CONFIG_ENV}"))
    if missing:
        if not keep_running:
            raise SettingsError(missing)
        text = "{}"
    settings, problems = read_settings(text, environ, keep_running=keep_running)
    return settings, [*missing, *problems]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
