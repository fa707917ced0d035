"""docker or podman, whichever is there: build, log in, push, and copy a file out of an image.

Both take the same arguments for these. Commands are argument lists, and a password goes through standard input.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from trainer.contract.errors import ContractError, Problem

TOOLS = ("docker", "podman")
# Docker: the older builder has no secrets; with attestations an index is pushed, which SageMaker does not take.
BUILDING = {"DOCKER_BUILDKIT": "1", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
# podman's own format, OCI, has no HEALTHCHECK.
BUILD_OPTIONS: Mapping[str, tuple[str, ...]] = {"docker": (), "podman": ("--format", "docker")}


@dataclass(frozen=True)
class ContainerTool:
    """``name`` is ``docker`` or ``podman``. A command that fails has shown why and raises :class:`ContractError`."""

    name: str
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def build(
        self,
        dockerfile: Path,
        context: Path,
        tag: str,
        arguments: Mapping[str, str],
        options: Sequence[str] = (),
    ) -> None:
        given = [option for name, value in arguments.items() for option in ("--build-arg", f"{name}={value}")]
        more = [*BUILD_OPTIONS[self.name], *given, *options]
        self._run("build", "--file", str(dockerfile), "--tag", tag, *more, str(context), more_environment=BUILDING)

    @contextmanager
    def logged_in(self, registry: str, user: str, password: str) -> Iterator["ContainerTool"]:
        """A tool that may push to ``registry``. The login is forgotten afterwards; the user's own is left alone."""
        with TemporaryDirectory() as directory:
            logins = {"DOCKER_CONFIG": directory, "REGISTRY_AUTH_FILE": f"{directory}/auth.json"}
            tool = ContainerTool(self.name, {**self.environment, **logins})
            tool._run("login", "--username", user, "--password-stdin", registry, stdin=password)
            yield tool

    def push(self, tag: str) -> None:
        self._run("push", tag)

    def copy_out(self, tag: str, file: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        container = self._run("create", tag, "true", capture=True).strip()
        try:
            self._run("cp", f"{container}:{file}", str(target))
        finally:
            self._run("rm", container, capture=True)

    def _run(
        self,
        *arguments: str,
        stdin: str | None = None,
        capture: bool = False,
        more_environment: Mapping[str, str] | None = None,
    ) -> str:
        done = subprocess.run(  # noqa: S603
            [self.name, *arguments],
            env={**self.environment, **(more_environment or {})},
            input=stdin or "",
            stdout=subprocess.PIPE if capture else None,
            text=True,
        )
        if done.returncode:
            problem = Problem(f"{self.name} {arguments[0]}", f"exit code {done.returncode}", "0; its output is above")
            raise ContractError("a container command failed", [problem])
        return done.stdout or ""


def container_tool(name: str | None = None) -> ContainerTool:
    """The tool called ``name``, or the first of docker and podman that is there and works.

    Raises:
        ContractError: none of them works; says why.
    """
    problems = []
    for tool in [name] if name else TOOLS:
        fault = _fault(tool)
        if fault is None:
            return ContainerTool(tool)
        problems.append(Problem(tool, fault, "a command that answers 'info'"))
    raise ContractError("images need docker or podman", problems, "Install one of them, or start docker's daemon.")


def _fault(tool: str) -> str | None:
    """Why ``tool`` cannot be used; docker's client alone, without its daemon, cannot."""
    if not shutil.which(tool):
        return "not installed"
    done = subprocess.run([tool, "info"], capture_output=True, text=True, stdin=subprocess.DEVNULL)  # noqa: S603
    return (done.stderr.strip().splitlines() or ["it failed"])[0] if done.returncode else None
