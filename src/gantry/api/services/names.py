"""Names for devices that come without one: two words that are easy to read out."""

import secrets

_ADJECTIVES = """
amber ancient autumn blue bold brave bright broken calm clever cold cool copper crimson curly
dark dawn deep delicate divine dry dusty early empty falling fancy floral fragrant frosty gentle
golden green hidden holy icy jolly late lingering little lively long lucky misty morning muddy
mute nameless noisy odd old orange patient plain polished proud purple quick quiet rapid red
restless rough round royal shiny shy silent silver small snowy soft solitary sparkling spring
still summer sunny swift tidy tiny twilight wandering weathered white wild winter wispy withered
young
"""
_NOUNS = """
art band bar base bird block boat bonus bread breeze brook bush butterfly cake cell cherry cloud
credit darkness dawn dew disk dream dust feather field fire firefly flower fog forest frog frost
glade glitter grass hall hat haze heart hill king lab lake leaf limit math meadow mode moon
morning mountain mouse mud night paper pine poetry pond queen rain recipe resonance rice river
salad scene sea shadow shape silence sky smoke snow snowflake sound star sun sunset surf term
thunder tooth tree truth union unit violet voice water waterfall wave wildflower wind wood
"""

ADJECTIVES = tuple(_ADJECTIVES.split())
NOUNS = tuple(_NOUNS.split())


def generate() -> str:
    """A name of the form `adjective-noun`."""
    return f"{secrets.choice(ADJECTIVES)}-{secrets.choice(NOUNS)}"
