"""Wire models and enums that cross a process line. Imports nothing else of Gantry."""
