"""``novelscope key``: keys of the character service: made, listed, revoked."""

from __future__ import annotations

import argparse
import time

from demos.verbs.common import action_maker, print_json, say, settings_of, text_argument

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    action = action_maker(parser)

    create = action("create", "新建密钥，只显示一次 / make a key; it is shown this once")
    create.add_argument("name", metavar="NAME", type=text_argument, help="whose it is, for the list")
    action("list", "列出密钥 / list the keys, without their secrets")
    revoke = action("revoke", "作废密钥 / make a key useless, at once")
    revoke.add_argument("key", metavar="ID", type=text_argument, help="as the list shows it")


def run(args: argparse.Namespace) -> int:
    """Make, list or revoke keys; a server that runs knows at once."""
    from demos.api.service import open_keys

    with open_keys(settings_of(args).home) as keys:
        if args.action == "create":
            made = keys.create(args.name)
            if args.json:
                print_json({"key": made.key, **made.info.to_dict()})
            else:
                print(made.key)
                say("请现在记下，以后不再显示 / write it down now, it is not shown again")
        elif args.action == "revoke":
            info = keys.revoke(args.key.partition(".")[0])
            if args.json:
                print_json(info.to_dict())
            else:
                say(f"{info.id} ({info.name}) 已作废 / is revoked")
        elif args.json:
            print_json({"keys": [info.to_dict() for info in keys.list()]})
        else:
            for info in keys.list():
                made_on = time.strftime("%Y-%m-%d %H:%M", time.localtime(info.created_at))
                print(f"{info.id}  {made_on}  {'已作废 revoked' if info.revoked_at else '有效 works'}  {info.name}")
    return 0
