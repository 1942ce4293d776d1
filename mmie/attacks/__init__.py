"""What an adversary may do to an arm after it was fitted."""
