"""Reading, cleaning, splitting and checking corpora; the shipped Atlas corpus; romanisation."""
