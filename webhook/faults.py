"""What was asked for and is not done: one value for the status, warnings, Event, metric, denial."""

from dataclasses import dataclass

from contract.annotations import PREFIX
from contract.plan import MAX_LEFT_OUT, MAX_MESSAGE, LeftOut
from contract.reasons import BY_CODE, NOT_ALLOWED, TOO_MANY
from webhook.admission import Denial
from webhook.shown import cut

MAX_DENIAL = 1024
_MAX_SUBJECT = 260


@dataclass(frozen=True, slots=True)
class Fault:
    """One entry of `left_out`."""

    subject: str
    """The annotation, or the path as shown."""
    reason: str
    """A code of `contract.reasons`."""
    message: str
    """Printable; nothing of a value that could be a secret."""
    is_path: bool = False
    """The subject is a path."""
    from_pod: bool = True
    """The pod's own annotation asks for it; false: the namespace's or the operator's default."""

    @property
    def is_mendable(self) -> bool:
        """Whether the pod's author can mend it where it stands."""
        return self.from_pod and BY_CODE[self.reason].mendable

    def warning(self) -> str:
        """Return the fault as one line for `kubectl apply`."""
        return worded(f"{self.subject}: {self.message} ({self.reason})")

    def entry(self) -> LeftOut:
        """Return the fault as the status has it."""
        subject, message = cut(self.subject, _MAX_SUBJECT), cut(self.message, MAX_MESSAGE)
        if self.is_path:
            return {"path": subject, "reason": self.reason, "message": message}
        return {"key": subject, "reason": self.reason, "message": message}


def unprotected(cause: Fault) -> str:
    """Return the message for what is not collected because `cause` could not be honoured."""
    return f"nothing is shipped while {cause.subject} cannot be honoured"


def worded(text: str) -> str:
    """Return a warning that says whose it is, among those of others."""
    return text if text.startswith(PREFIX) else f"sidetail: {text}"


def entries(faults: tuple[Fault, ...], more: int) -> list[LeftOut]:
    """Return at most 64 entries; the last one counts the rest, and `more` that have no entry."""
    if len(faults) + more <= MAX_LEFT_OUT and not more:
        return [fault.entry() for fault in faults]
    kept = faults[: MAX_LEFT_OUT - 1]
    count = len(faults) - len(kept) + more
    rest = Fault("…", TOO_MANY, f"and {count} more")
    return [fault.entry() for fault in (*kept, rest)]


def denial(faults: tuple[Fault, ...]) -> Denial | None:
    """Return the denial for what the author can mend, or None if that is nothing."""
    mendable = [fault for fault in faults if fault.is_mendable]
    if not mendable:
        return None
    forbidden = all(fault.reason == NOT_ALLOWED for fault in mendable)
    text = "; ".join(fault.warning() for fault in mendable[:MAX_LEFT_OUT])
    return Denial(403 if forbidden else 400, cut(text, MAX_DENIAL))
