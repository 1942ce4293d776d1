"""How deep forgetting goes: what is left in the layers of an arm whose answers no longer show it.

Nothing here gates a verdict. Every measure is read against the base and the oracle, never alone.
"""
