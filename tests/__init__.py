"""The tests: sentences with numbers in them."""
