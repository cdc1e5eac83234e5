"""The delta server: makes deltas between images of the fleet's registry, keeps and serves them."""
