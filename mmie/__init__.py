"""MMIE: did unlearning a language, or facts told in it, work, and at what cost?"""

__version__ = "0.1.0"
