"""Work on one device from a developer's machine, without the cloud side.

A tree is built on the device's engine or here, becomes a local target of its supervisor, and its
files follow into the running containers. The builder's resolution says what a tree holds, so that
a local push and `git push` build the same.
"""
