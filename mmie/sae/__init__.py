"""Sparse autoencoders: training, quality, formats, and the picking of latents."""
