"""Train a shipped model: the base on all of Atlas, an oracle on what is left without some languages."""
