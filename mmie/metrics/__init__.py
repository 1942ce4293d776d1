"""Per-example scores: pure functions, one file a family."""
