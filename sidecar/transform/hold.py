"""Leaves records that are still open at a block's end to be read again."""

from sidecar.transform.records import NO_END, Records


def hold_open(records: Records) -> Records:
    """Return the records before the first open one (NO_END in `stops`).

    Records that began before it and end behind it are held with it: read from its beginning,
    they would not be whole.
    """
    columns = records.columns
    if columns is None or columns.stops is None or NO_END not in columns.stops:
        return records
    return records.slice(0, records.cut(columns.stops.index(NO_END)))
