"""The `gantry` command: what people type, over the fleet's public interfaces."""
