"""`python -m demo`: what `make demo` runs."""

import argparse
import signal
import sys
from pathlib import Path

from demo.play import Wishes, play
from demo.screen import DemoError, Screen

EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def main(arguments: list[str]) -> int:
    """Play the demo; return 0 for nothing lost, 1 for lines lost, 2 for what the user can mend."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--pod", type=Path, help="a manifest of your own (Pod or workload)")
    parser.add_argument("--app", help="the command that stands for the pod's main container")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each act lasts")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="for the records")
    parser.add_argument(
        "--no-mounts", action="store_true", help="map paths instead of mounting volumes"
    )
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        wishes = Wishes(
            pod=options.pod,
            app=options.app,
            seconds=options.seconds,
            output=options.output,
            mounts=not options.no_mounts,
        )
        return play(wishes, Screen())
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return EXIT_USAGE
    except KeyboardInterrupt:
        print("demo: stopped; nothing is left running", file=sys.stderr)
        return EXIT_INTERRUPTED


def _interrupt(number: int, frame: object) -> None:
    del number, frame
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
