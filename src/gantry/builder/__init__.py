"""The builder: a pushed tree becomes container images in the fleet's registry."""
