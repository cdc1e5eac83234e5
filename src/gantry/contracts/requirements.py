"""What a service's contract.yml may require of its device.

https://docs.balena.io/learn/develop/container-contracts/
"""

# The kinds of requirements that the family's supervisor knows.
KINDS = ("sw.supervisor", "sw.os", "sw.kernel", "sw.l4t", "hw.device-type", "arch.sw")
