"""How scores become claims: intervals, tests, corrections, gates and the verdict."""
