"""Score one arm and seed on every prompt of one language."""
