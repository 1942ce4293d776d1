"""The residual stream on disk, similarity across languages, and the choice of layers."""
