"""Names and value types that both sides agree on; no logic, standard library only."""

VERSION = "1.0.0"
"""The version of this release: in `sidetail.dev/status`, `SIDETAIL_VERSION` and image labels."""
