"""What the api decides. Routes call these; they call the queries."""
