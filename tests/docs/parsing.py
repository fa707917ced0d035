"""Whether a command could run, without running it: what its own parser, Makefile or service model knows of it."""

import argparse
import importlib
import re
import shlex
from collections.abc import Iterator, Sequence

from tests.docs.pages import ROOT, pages, titles

OPERATORS = ("|", "||", "&&", ";", "&", ">", ">>")
MODULE = re.compile(r"-m (trainer|training_assets)(?= |$)")
FOLDERS = ("recipes", "sweeps", "deploy", "benchmarks", "tests", "docs")
MADE_BY_READER = ("terraform.tfvars", "settings.env")
GENERAL = ("--query", "--output", "--parameters")


def complaints(command: str) -> list[str]:
    """What is wrong with ``command``; empty when nothing is."""
    return [*_of_ours(command), *_of_make(command), *_of_aws(command), *_of_files(command), *_of_outputs(command)]


def parser_of(package: str) -> argparse.ArgumentParser:
    module = importlib.import_module(f"{package}.__main__")
    made = module.parser if hasattr(module, "parser") else module._parser
    parser = made()
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def _of_ours(command: str) -> Iterator[str]:
    match = MODULE.search(command)
    if match is None:
        return
    words = _until_operator(shlex.split(command[match.end() :]))
    try:
        parser_of(match[1]).parse_args(words)
    except SystemExit:
        yield f"the parser of {match[1]} refuses it"


def _of_make(command: str) -> Iterator[str]:
    if not re.match(r"(\S+=('.*?'|\S*) )*make ", command):
        return
    words = shlex.split(command)
    makefile = (ROOT / "Makefile").read_text()
    for word in _until_operator(words[words.index("make") + 1 :]):
        name, equals, _ = word.partition("=")
        if equals and f"$({name})" not in makefile:
            yield f"the Makefile does not read {name}"
        if not equals and not re.search(rf"^{re.escape(word)}:", makefile, re.MULTILINE):
            yield f"the Makefile has no target {word}"


def _of_aws(command: str) -> Iterator[str]:
    """Each call of the AWS CLI that is an operation of the service's API."""
    import botocore.session

    session = botocore.session.get_session()
    for service, operation, rest in re.findall(r"\baws ([a-z0-9-]+) ([a-z0-9-]+)([^|)]*)", command):
        name = {"s3api": "s3"}.get(service, service)
        if (service, operation) in {("s3", "rm"), ("s3", "cp"), ("eks", "update-kubeconfig")}:
            continue  # the CLI's own, not the API's
        model = session.get_service_model(name)
        known = {botocore.xform_name(one, "-"): one for one in model.operation_names}
        if operation not in known:
            yield f"aws {service} has no {operation}"
            continue
        shape = model.operation_model(known[operation]).input_shape
        options = {f"--{botocore.xform_name(member, '-')}" for member in (shape.members if shape else ())}
        for option in re.findall(r"(?<!\S)--[a-z-]+", rest):
            if option not in options and option not in GENERAL:
                yield f"aws {service} {operation} has no {option}"


def _of_files(command: str) -> Iterator[str]:
    """Files of the repository that it names."""
    for word in re.findall(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]+", command):
        if not (ROOT / word).exists() and word not in titles() and not word.endswith(MADE_BY_READER):
            yield f"there is no {word}"


def _of_outputs(command: str) -> Iterator[str]:
    """Outputs of Terraform that it asks for."""
    files = list((ROOT / "deploy" / "terraform" / "roots").glob("*/*.tf"))
    for name in re.findall(r"terraform -chdir=\S+ output (?:-json|-raw) (\w+)", command):
        if not any(f'output "{name}"' in file.read_text() for file in files):
            yield f"Terraform has no output {name}"


def _until_operator(words: Sequence[str]) -> list[str]:
    end = next((number for number, word in enumerate(words) if word in OPERATORS), len(words))
    return list(words[:end])


def inline_commands() -> Iterator[tuple[str, str]]:
    """Commands of ours within a text, and their page: ``python -m trainer import`` and ``make demo``."""
    for page in pages():
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for found in re.findall(r"`((?:\.venv/bin/)?(?:python -m (?:trainer|training_assets) |make )[^`]+)`", text):
            yield str(page.relative_to(ROOT)), " ".join(found.split())


def known_commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found.update(action.choices)
    return found
