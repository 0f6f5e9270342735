"""The webhook's certificates: issued, kept in a Secret, renewed, and known to the API server.

In reading order: issue (pure) · rotation (pure) · store · ca_bundle · keep (the thread that does
it all) · `__main__` (the same once, and certificates for development).
"""
