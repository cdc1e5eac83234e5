"""HTTP: takes requests apart, calls a service, puts the answer together."""
