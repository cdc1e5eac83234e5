#!/usr/bin/python
"""Ansible module, run on the controller: what a fleet says of itself to its devices.

It asks the api with the session that `gantry login` or `gantry connect` kept, as the CLI does; or
it reads a config.json that was made before and asks nobody.
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: gantry_fleet
short_description: What a fleet says of itself to its devices
description:
  - Runs on the controller, with the interpreter that has Gantry installed.
  - Without O(config_file), asks the fleet's api as the logged-in user.
options:
  fleet:
    description: The fleet, a stack's name.
    type: str
  application:
    description: The application whose devices are meant. By default it is called as the fleet is.
    type: str
  config_file:
    description: A config.json that C(gantry config generate) made, in place of asking the api.
    type: path
  config:
    description: The same as a dictionary.
    type: dict
  new_key:
    description: >-
      Makes a provisioning key, valid for a day, and returns C(config) with it. A secret.
    type: bool
    default: false
  key_name:
    description: What the key is called in the fleet.
    type: str
  device_type:
    description: The device's own type, if it is not the fleet's.
    type: str
  forget:
    description: The uuid of a device that the fleet is to forget.
    type: str
"""

RETURN = """
fleet:
  description: >-
    C(name), C(application_id), C(device_type), C(api_url), C(host), C(registry), C(ca),
    C(version) of the controller's Gantry, C(supervisors) by architecture, C(device_types) whose
    boards run the fleet's releases.
  type: dict
  returned: unless O(forget) is set
config:
  description: A config.json for one device. Secret.
  type: dict
  returned: with O(new_key), O(config) or O(config_file)
"""

OPTIONS: dict[str, dict[str, Any]] = {
    "fleet": {"type": "str"},
    "application": {"type": "str"},
    "config_file": {"type": "path"},
    # It holds a key. Marked so, its other values would be stars in the answer too: the tasks that
    # give it have no_log.
    "config": {"type": "dict", "no_log": False},
    "new_key": {"type": "bool", "default": False, "no_log": False},
    "key_name": {"type": "str", "no_log": False},
    "device_type": {"type": "str"},
    "forget": {"type": "str"},
}


def main() -> None:
    """Read the options, answer, and say what is wrong in one sentence."""
    module = AnsibleModule(
        OPTIONS,
        supports_check_mode=True,
        mutually_exclusive=[("config_file", "config", "new_key", "forget")],
        required_one_of=[("fleet", "config_file", "config")],
    )
    try:
        from gantry.deployment import device_hosts
    except ImportError:
        module.fail_json(
            msg="this controller's Python has no Gantry: run the playbook with "
            ".venv/bin/ansible-playbook of a checkout after `make setup`"
        )
    options = module.params
    try:
        if options["forget"]:
            forgotten = device_hosts.forget(
                options["fleet"], options["forget"], dry=module.check_mode
            )
            module.exit_json(**forgotten)
        given = options["config"]
        if options["config_file"]:
            given = device_hosts.read_config(Path(options["config_file"]))
        if given:
            module.exit_json(changed=False, fleet=device_hosts.fleet_of(given), config=given)
        module.exit_json(
            **device_hosts.ask_fleet(
                options["fleet"],
                options["application"],
                key_name=options["key_name"] if options["new_key"] else None,
                board=options["device_type"],
                dry=module.check_mode,
            )
        )
    except device_hosts.DeviceHostError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
