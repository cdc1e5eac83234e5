"""The api: accounts, fleets, devices, releases, what each device should run, and who may what."""
