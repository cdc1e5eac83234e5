"""What is asked of the database: one module a resource, and nowhere else."""
