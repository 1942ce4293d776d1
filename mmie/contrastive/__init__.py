"""Triples of prompts whose inner representations are drawn together or apart."""
