"""What the operator's machine does: images, certificates, and the built-in deployment engine."""
