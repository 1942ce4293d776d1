"""Forget and retain losses: pure functions of tensors, per item or per token, and their catalogue."""
