"""The manifests, and the program that renders them."""
