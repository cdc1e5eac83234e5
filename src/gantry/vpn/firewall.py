"""The doorway to nftables: puts the rules in place, whole or not at all."""

import asyncio

NFT_SECONDS = 20.0


class FirewallError(Exception):
    """The kernel did not take the rules; the message is nft's."""


async def apply(ruleset: str) -> None:
    """Replace our table by this one.

    Raises:
        FirewallError: it was not taken; without it no device may log in.
    """
    process = await asyncio.create_subprocess_exec(
        "nft",
        "-f",
        "-",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(NFT_SECONDS):
            output, _ = await process.communicate(ruleset.encode())
    except TimeoutError as error:
        process.kill()
        await process.wait()
        raise FirewallError(f"nft took more than {NFT_SECONDS:g} s") from error
    if process.returncode != 0:
        text = output.decode(errors="replace").strip()
        raise FirewallError(
            f"nft refuses the rules (does the container have NET_ADMIN?): {text[:500]}"
        )
