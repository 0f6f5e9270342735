"""How any process of ours lives: settings, own logs, stop, threads, atomic files, probes.

Knows no domain: nothing here has heard of a pod or a log line.
"""
