"""The `/v7` resource model: an OData subset, compiled to SQL with each actor's own view in it."""
