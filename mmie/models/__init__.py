"""Loading models, finding their blocks, hooking them, and turning text into tokens."""
