"""The tailer: lines come out of files and go to backends. Start at `sidecar.pipeline`."""
