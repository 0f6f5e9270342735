"""What the benchmarks print: Markdown tables, and the figures for the chart."""

from collections.abc import Sequence


class Report:
    """Tables on standard output, as they come; kept for docs/performance.md."""

    def __init__(self) -> None:
        self.figures: dict[str, dict[str, float]] = {}
        self.text: list[str] = []

    def say(self, line: str) -> None:
        """Print one line, and keep it."""
        self.text.append(line)
        print(line, flush=True)

    def table(self, title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table under a heading."""
        self.say(f"\n### {title}\n")
        self.say("| " + " | ".join(head) + " |")
        self.say(
            "|" + "|".join("---" if index == 0 else "---:" for index in range(len(head))) + "|"
        )
        for row in rows:
            self.say("| " + " | ".join(row) + " |")
