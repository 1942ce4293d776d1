"""Choosing an arm's hyper-parameters on DEV by a rule that is fixed before."""
