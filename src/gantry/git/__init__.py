"""The git server: OpenSSH for the platform's users, and the hook that turns a push into a build.

What runs at each login and each push (`keys`, `shell`, `hook`) imports the standard library only:
three short-lived processes stand between `git push` and its first line of output.
"""
