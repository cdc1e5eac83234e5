"""The registry's configuration and storage. The server itself is distribution (docker-registry)."""
