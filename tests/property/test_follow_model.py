"""Whatever happens to the files, and whenever the process is killed: no line is lost.

The model knows the bytes of every content that was ever written. What a backend gets is compared
byte for byte, by offset, with the content that its id stands for; what a content owes is what was
not destroyed before it could be read. Time is the model's own; the files are real.
"""

import json
import os
import random
import shutil
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from runtime.logs import Seldom
from sidecar.block import Block
from sidecar.checkpoint import open_checkpoint
from sidecar.files import Files
from sidecar.settings import read_settings
from sidecar.watches import Watches

NAMES = ("a.log", "b.log", "sub/c.log")
OUTSIDE = ("a.log.1", "b.old", "sub/c.1", "kept/x.1")
BACKENDS = ("main", "other")
ROTATED_SECONDS = 100_000.0
"""Longer than any life here: whatever is renamed is owed, late lines too."""
PARTIAL_SECONDS = 2.0


@dataclass(eq=False)
class Content:
    """Everything that was ever written to one file until it was truncated or gone."""

    number: int
    data: bytearray = field(default_factory=bytearray)
    inode: int = 0
    lines: int = 0
    alive: bool = True
    ids: set[str] = field(default_factory=set)
    covered: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    """Backend → what was settled, as (start, end), in the order of settling."""
    owed_upto: dict[str, int] = field(default_factory=dict)
    """Backend → how much of a destroyed content is owed."""
    seen: bool = False
    """A pass saw bytes of it under a name of the globs: it is owed wherever it goes."""
    written_at: float = 0.0
    ends: set[int] = field(default_factory=lambda: {0})
    """Offsets at which what was used of a block ended."""

    def settled(self, backend: str) -> int:
        return max((end for _, end in self.covered[backend]), default=0)


class FollowMachine(RuleBasedStateMachine):
    """Two backends read the same files, at their own pace."""

    limits = {
        "max_line_bytes": 400,
        "partial_seconds": PARTIAL_SECONDS,
        "multiline_seconds": 3,
        "rotated_seconds": ROTATED_SECONDS,
        "open_files": 256,
    }

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="follow-"))
        self.logs = self.folder / "logs"
        (self.logs / "sub").mkdir(parents=True)
        (self.logs / "kept").mkdir()
        self.now = 1000.0
        self.contents: list[Content] = []
        self.at: dict[str, tuple[Content, int]] = {}
        """Name → the content there, and the writer's descriptor."""
        self.unnamed: list[tuple[Content, int]] = []
        """Deleted files that their writer still holds open."""
        self.batches: dict[str, list[list[tuple[Block, int]]]] = {name: [] for name in BACKENDS}
        self.by_id: dict[str, Content] = {}
        self.replays = 0
        self.random = random.Random(0)
        self.files: Files | None = None

    @initialize(seed=st.integers(0, 2**16), open_files=st.sampled_from([256, 4, 1]))
    def begin(self, seed: int, open_files: int) -> None:
        self.random = random.Random(seed)
        self.open_files = open_files
        self.start()

    # The process.

    def start(self) -> None:
        document = {
            "sources": [{"path": f"{self.logs}/**/*.log"}],
            "backends": [{"name": name, "type": "stdout"} for name in BACKENDS],
            "state_dir": str(self.folder / "state"),
            "limits": self.limits | {"open_files": self.open_files},
        }
        parsed, _ = read_settings(json.dumps(document), {"POD_UID": "pod"})
        self.checkpoint = open_checkpoint(parsed.state_dir, list(BACKENDS))
        self.watches = Watches()
        self.files = Files(
            parsed, self.checkpoint, Seldom(), clock=lambda: self.now, watches=self.watches
        )
        self.files._open_hints()
        self.look()

    def look(self) -> None:
        self.files.scan()
        for name in NAMES:
            if name in self.at and self.at[name][0].data:
                self.at[name][0].seen = True

    @precondition(lambda self: self.files)
    @rule()
    def scan(self) -> None:
        self.look()

    @precondition(lambda self: self.files)
    @rule()
    def hint(self) -> None:
        """What the discovery thread does between two passes."""
        hints = self.watches.read()
        if hints.overflow:
            self.look()
        else:
            self.files._glance(hints)

    @rule(seconds=st.sampled_from([0.125, 1.0, 2.5, 4.0]))  # whole in binary, too
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.files)
    @rule(clean=st.booleans(), at_once=st.booleans())
    def stop(self, clean: bool, at_once: bool) -> None:
        if clean:
            self.checkpoint.save()
        self.die()
        if at_once:
            self.start()

    @precondition(lambda self: self.files is None)
    @rule()
    def come_back(self) -> None:
        self.start()

    def die(self) -> None:
        """As SIGKILL does: what was not settled never was; the journal is as it was written."""
        for name in BACKENDS:
            self.replays += sum(map(len, self.batches[name]))
            self.batches[name].clear()
        for content in self.contents:
            if not content.alive:
                self.destroyed_for_good(content)
            elif not content.data:
                content.seen = False
        self.files.close()
        self.checkpoint._folder.close()
        os.close(self.checkpoint._file)
        self.checkpoint._folder = None
        self.files = None

    def destroyed_for_good(self, content: Content) -> None:
        for name in BACKENDS:
            content.owed_upto[name] = min(content.owed_upto.get(name, 0), content.settled(name))

    # The apps and their tools.

    def open(self, name: str) -> None:
        path = self.logs / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        inode = os.fstat(descriptor).st_ino
        content = Content(len(self.contents), inode=inode)
        self.contents.append(content)
        self.at[name] = (content, descriptor)

    def append(self, content: Content, descriptor: int, text: bytes) -> None:
        os.write(descriptor, text)
        content.data += text
        content.written_at = self.now

    def lines(self, content: Content, count: int) -> bytes:
        header = b""
        if count and not content.data and self.random.random() < 0.4:
            header = b"# every one of them begins with this\n"
        return header + b"".join(self.line(content) for _ in range(count))

    def line(self, content: Content) -> bytes:
        content.lines += 1
        filler = b"x" * self.random.choice([0, 0, 3, 80, 395, 600])
        end = self.random.choice([b"\n", b"\n", b"\r\n"])
        return b"%d-%d %s%s" % (content.number, content.lines, filler, end)

    @rule(name=st.sampled_from(NAMES), count=st.integers(1, 12))
    def write(self, name: str, count: int) -> None:
        if name not in self.at:
            self.open(name)
        content, descriptor = self.at[name]
        self.append(content, descriptor, self.lines(content, count))

    @rule(name=st.sampled_from(NAMES), cut=st.integers(1, 300))
    def write_part(self, name: str, cut: int) -> None:
        if name not in self.at:
            self.open(name)
        content, descriptor = self.at[name]
        self.append(content, descriptor, self.line(content)[:cut])

    @rule(name=st.sampled_from(NAMES))
    def end_line(self, name: str) -> None:
        if name in self.at:
            content, descriptor = self.at[name]
            self.append(content, descriptor, b"\n")

    @precondition(lambda self: self.files)
    @rule(name=st.sampled_from(NAMES), cut=st.integers(1, 300), dies=st.booleans())
    def pause_within_a_line(self, name: str, cut: int, dies: bool) -> None:
        """The line is sent without its end, which comes later."""
        self.write_part(name, cut)
        self.look()
        self.now += PARTIAL_SECONDS
        for backend in BACKENDS[: 1 + self.random.randrange(2)]:
            self.drain(backend)
        if dies:
            self.stop(clean=False, at_once=True)
        self.end_line(name)

    @rule(pick=st.integers(0, 100), count=st.integers(1, 5))
    def write_late(self, pick: int, count: int) -> None:
        """The app still writes to what was renamed or deleted."""
        late = [self.at[name] for name in OUTSIDE if name in self.at]
        if late:
            content, descriptor = late[pick % len(late)]
            self.append(content, descriptor, self.lines(content, count))

    @rule(name=st.sampled_from(NAMES), to=st.sampled_from(OUTSIDE + NAMES))
    def rename(self, name: str, to: str) -> None:
        if name not in self.at or to == name:
            return
        if to in self.at:
            self.unlink(to)
        os.rename(self.logs / name, self.logs / to)
        self.at[to] = self.at.pop(name)

    @rule(name=st.sampled_from(NAMES + OUTSIDE))
    def delete(self, name: str) -> None:
        if name in self.at:
            self.unlink(name)
            os.unlink(self.logs / name)
            del self.at[name]

    def unlink(self, name: str) -> None:
        """What stands there is about to lose its last name."""
        content, descriptor = self.at[name]
        self.destroy(content, held=self.is_held(content))
        os.close(descriptor)

    @rule(name=st.sampled_from(NAMES), count=st.integers(0, 20), held=st.booleans())
    def replace(self, name: str, count: int, held: bool) -> None:
        """A file with other content is put in its place by one rename."""
        self.open("kept/new.tmp")
        content, descriptor = self.at.pop("kept/new.tmp")
        self.append(content, descriptor, self.lines(content, count))
        if name in self.at:
            self.unlink(name)
        os.rename(self.logs / "kept/new.tmp", self.logs / name)
        self.at[name] = (content, descriptor)

    @rule(name=st.sampled_from(NAMES), count=st.integers(0, 20))
    def truncate(self, name: str, count: int) -> None:
        """Truncate, and perhaps write more than before, before anybody looks."""
        if name not in self.at:
            return
        old, descriptor = self.at[name]
        if len(old.data) < 60:
            return  # another content might begin with the same bytes, and then it is the same
        self.destroy(old, held=False)
        os.ftruncate(descriptor, 0)
        content = Content(len(self.contents), inode=old.inode)
        self.contents.append(content)
        self.at[name] = (content, descriptor)
        self.append(content, descriptor, self.lines(content, count))

    def destroy(self, content: Content, *, held: bool) -> None:
        content.alive = False
        for name in BACKENDS:
            content.owed_upto[name] = len(content.data) if held else content.settled(name)

    def tracked(self, content: Content):
        if self.files is None or not content.alive:
            return None
        for file in self.files._known.files.values():
            if file.inode == content.inode:
                return file
        return None

    def is_held(self, content: Content) -> bool:
        file = self.tracked(content)
        return file is not None and file.descriptor >= 0 and content.seen

    # The backends.

    @precondition(lambda self: self.files)
    @rule(
        name=st.sampled_from(BACKENDS),
        size=st.sampled_from([1, 40, 300, 4096]),
        blocks=st.integers(1, 4),
        part=st.booleans(),
        hold=st.booleans(),
    )
    def take(self, name: str, size: int, blocks: int, part: bool, hold: bool) -> None:
        if len(self.batches[name]) >= 2:
            return
        backlog = self.files.backlog(name)
        batch: list[tuple[Block, int]] = []
        block = backlog.take(size)
        while block is not None:
            self.check(block)
            upto = self.some_of(block, part, hold)
            self.by_id[block.facts.file].ends.add(upto)
            backlog.use(block, upto, block.data[: upto - block.start].count(b"\n"))
            batch.append((block, upto))
            if len(batch) >= blocks or upto < block.end:
                break
            block = backlog.more(block, size) or backlog.take(size)
        if batch:
            self.batches[name].append(batch)

    def some_of(self, block: Block, part: bool, hold: bool) -> int:
        if block.truncated:
            return block.end
        if hold and not block.flush:
            return block.start
        if part and block.data.count(b"\n") > 1:
            return block.start + block.data.index(b"\n") + 1
        return block.end

    @precondition(lambda self: any(self.batches.values()))
    @rule(name=st.sampled_from(BACKENDS), last=st.booleans())
    def settle(self, name: str, last: bool) -> None:
        if self.batches[name]:
            batch = self.batches[name].pop(-1 if last else 0)
            self.files.backlog(name).settle([block for block, _ in batch])
            for block, upto in batch:
                self.deliver(name, block, upto)

    @precondition(lambda self: any(self.batches.values()))
    @rule(name=st.sampled_from(BACKENDS))
    def give_back(self, name: str) -> None:
        if self.batches[name]:
            batch = self.batches[name].pop()
            self.replays += len(batch)
            self.files.backlog(name).give_back([block for block, _ in batch])

    # The verdict.

    def check(self, block: Block) -> None:
        """A block is, byte for byte, what one content has there."""
        content = self.by_id.get(block.facts.file)
        if content is None:
            content = self.content_of(block)
            content.ids.add(block.facts.file)
            self.by_id[block.facts.file] = content
        assert len(content.ids) == 1, "its ids have changed"
        data = content.data
        assert bytes(data[block.start : block.start + len(block.data)]) == block.data
        begins = data[block.start - 1 : block.start] == b"\n" or any(
            block.start - skipped in content.ends for skipped in (0, 1, 2)
        )
        assert begins, "it begins within a line"
        if block.start and data[block.start - 1] != 10:
            assert not block.data.startswith((b"\n", b"\r\n")), "the end of a line that was sent"
        if not block.data.endswith(b"\n") and data[block.end - 1 : block.end] != b"\n":
            quiet = self.now - content.written_at
            assert quiet >= PARTIAL_SECONDS, "an unterminated line was not waited for"
        longest = max(map(len, block.data.split(b"\n")))
        assert longest <= self.limits["max_line_bytes"] + 1
        if block.truncated:
            assert b"\n" not in block.data
            skipped = bytes(data[block.start + len(block.data) : block.end])
            assert len(skipped.rstrip(b"\r\n")) == block.truncated
            assert b"\n" not in skipped[:-1]
        else:
            assert block.end == block.start + len(block.data)

    def content_of(self, block: Block) -> Content:
        """Return the content that an id stands for which was never seen before."""
        inode = block.context.cursor.file.inode
        found = [
            content
            for content in self.contents
            if content.inode == inode
            and not content.ids
            and len(content.data) >= block.start + len(block.data)
            and bytes(content.data[block.start : block.start + len(block.data)]) == block.data
        ]
        assert found, f"nobody wrote {block.data!r}"
        return max(found, key=lambda content: (content.alive, content.number))

    def deliver(self, name: str, block: Block, upto: int) -> None:
        content = self.by_id[block.facts.file]
        if upto == block.start:
            return
        before = content.settled(name)
        if block.start < before:
            assert self.replays, "sent twice, for no reason"
        else:
            gap = bytes(content.data[before : block.start])
            assert gap in {b"", b"\n", b"\r\n"}, f"left out: {gap!r}"
        content.covered[name].append((block.start, upto))

    def teardown(self) -> None:
        try:
            if self.files is None:
                self.start()
            self.finish()
        finally:
            if self.files is not None:
                self.die()
            for _, descriptor in self.at.values():
                os.close(descriptor)
            shutil.rmtree(self.folder)

    def finish(self) -> None:
        """Let everything come to rest, and see that nothing is missing."""
        for name in BACKENDS:
            for batch in self.batches[name]:
                self.files.backlog(name).settle([block for block, _ in batch])
                for block, upto in batch:
                    self.deliver(name, block, upto)
            self.batches[name].clear()
        for _ in range(5):
            self.look()
            self.drain(*BACKENDS)
            self.now += 5.0
        self.look()
        for name in BACKENDS:
            self.files.backlog(name).last()
        self.now += 1.0
        self.drain(*BACKENDS)
        for name in BACKENDS:
            assert self.files.backlog(name).drained()
            assert self.files.backlog(name).backlog_bytes() == 0
            assert self.files.backlog(name).lines_left() == 0
        self.judge()

    def drain(self, *names: str) -> None:
        for name in names:
            backlog = self.files.backlog(name)
            for _ in range(10_000):
                block = backlog.take(4096)
                if block is None:
                    if not backlog.ready():
                        break
                    continue
                self.check(block)
                self.by_id[block.facts.file].ends.add(block.end)
                backlog.use(block, block.end, 1)
                backlog.settle([block])
                self.deliver(name, block, block.end)
            else:
                pytest.fail("there is no end to it")

    def judge(self) -> None:
        for content in self.contents:
            for name in BACKENDS:
                owed = self.owed(content, name)
                settled = content.settled(name)
                rest = bytes(content.data[settled:owed])
                assert rest in {b"", b"\n", b"\r\n"}, (
                    f"content {content.number} lacks {rest[:80]!r} at {settled} of {owed}, {name}"
                )

    def owed(self, content: Content, name: str) -> int:
        if not content.alive:
            return content.owed_upto[name]
        where = [each for each, (other, _) in self.at.items() if other is content]
        return len(content.data) if where[0] in NAMES or content.seen else 0


# Without shrinking: it would take longer than a test may.
_PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
TestFollow = FollowMachine.TestCase
TestFollow.settings = settings(
    max_examples=70,
    stateful_step_count=40,
    deadline=None,
    phases=_PHASES,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_nothing_is_lost_in_ten_thousand_lives():
    run_state_machine_as_test(
        FollowMachine,
        settings=settings(
            max_examples=10_000,
            stateful_step_count=60,
            deadline=None,
            phases=_PHASES,
            suppress_health_check=list(HealthCheck),
        ),
    )
