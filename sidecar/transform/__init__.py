"""Step 4 of the line: a block of whole lines goes in, records come out."""
