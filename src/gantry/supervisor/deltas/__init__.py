"""Updates by delta: what an image lacks is downloaded, and the rest taken from what is here.

`door.py` is all that a supervisor without a delta under way needs; the other modules are imported
when the first one is to be had.
"""
