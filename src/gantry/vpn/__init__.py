"""The VPN: one openvpn process, who may log in to it, and the ways to devices through it."""
