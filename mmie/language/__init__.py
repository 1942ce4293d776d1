"""Scripts, language identification, and where in an answer a language starts."""
