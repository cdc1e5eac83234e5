"""A small HTTP service around the Opentrons API: it simulates protocols that are posted to it."""
