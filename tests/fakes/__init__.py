"""Small programs that behave: what the tests run the real processes against."""
