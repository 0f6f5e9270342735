"""The system's randomness, for everything that is not a test."""

import secrets

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec


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
