"""Step 6 of the line: records are encoded for one backend, and its answer is classified."""
