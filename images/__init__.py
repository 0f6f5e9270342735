"""What goes into the two images."""
