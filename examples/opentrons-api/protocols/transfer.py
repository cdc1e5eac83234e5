"""Moves 100 µL from one well to its neighbour: a protocol to try the service with."""

from opentrons import protocol_api

metadata = {"protocolName": "Transfer", "description": "100 µL from A1 to B1"}
requirements = {"robotType": "OT-2", "apiLevel": "2.14"}


def run(protocol: protocol_api.ProtocolContext) -> None:
    """What the robot does."""
    tips = protocol.load_labware("opentrons_96_tiprack_300ul", 1)
    plate = protocol.load_labware("corning_96_wellplate_360ul_flat", 2)
    pipette = protocol.load_instrument("p300_single_gen2", "left", tip_racks=[tips])
    pipette.transfer(100, plate["A1"], plate["B1"])
