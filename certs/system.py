"""Time and randomness: what is asked of them, and the system's own, for all but tests."""

import secrets
import time
from collections import deque
from datetime import UTC, datetime
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec


class Clock(Protocol):
    """Wall time and monotonic time: the system's, or a test's."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds since some moment; never goes back."""
        ...


class Budget:
    """So many times in so many seconds, and no more: an end to fights that nobody can win."""

    def __init__(self, clock: Clock, *, times: int = 5, seconds: float = 600.0) -> None:
        self._clock = clock
        self._times = times
        self._seconds = seconds
        self._spent: deque[float] = deque()

    def spend(self) -> bool:
        """Take one if there is one left; return whether there was."""
        now = self._clock.monotonic()
        while self._spent and now - self._spent[0] >= self._seconds:
            self._spent.popleft()
        if len(self._spent) >= self._times:
            return False
        self._spent.append(now)
        return True


class SystemClock:
    """Wall time for what certificates say, monotonic time for lengths of waiting."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since some moment; never goes back."""
        return time.monotonic()


class SystemRandomness:
    """Keys and serial numbers from the cryptographic generators of OpenSSL and the kernel."""

    def __init__(self) -> None:
        self._numbers = secrets.SystemRandom()

    def key(self) -> ec.EllipticCurvePrivateKey:
        """Return a new private key on P-256."""
        return ec.generate_private_key(ec.SECP256R1())

    def serial(self) -> int:
        """Return a new serial number of 159 random bits."""
        return x509.random_serial_number()

    def fraction(self) -> float:
        """Return a number from 0 to 1, without 1."""
        return self._numbers.random()
