"""The operator's side of a fleet's api: logins that are kept, and one client for all who use it."""
