"""Deltas: the smallest updates. The library is light; `create` and `server` are not."""
