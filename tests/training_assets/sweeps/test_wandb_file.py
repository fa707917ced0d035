"""The W&B sweep file: W&B's own schema takes what is exported, we take whatever it takes, and its agent can run it."""

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trainer.contract.epochs import EPOCHS_FILE, read_epochs
from trainer.contract.errors import ContractError
from trainer.contract.results import Epoch
from trainer.contract.train_config import read_config
from training_assets.__main__ import main
from training_assets.launchers import Handle, LaunchSpec, LocalLauncher, Status
from training_assets.sweeps.parameters import space_of
from training_assets.sweeps.space import DISTRIBUTIONS, LogUniform
from training_assets.sweeps.sweep_file import Sweep, read_sweep
from training_assets.sweeps.wandb_file import Start, create, start_agents, wandb_sweep
from training_assets.sweeps.wandb_trial import WandbTrial, train

REPOSITORY = Path(__file__).parents[3]
SCHEMA = REPOSITORY / ".venv-sweeps"
RUN_ID, IOU = "abcd1234", "segmentation/mIoU"


@pytest.fixture(scope="module")
def violations() -> Iterator[Any]:
    """W&B's own check: what is wrong with a sweep file, nothing where it is one."""
    if not (SCHEMA / "sweeps").is_dir():
        pytest.skip("needs W&B's schema of a sweep file (make .venv-sweeps/installed)")
    sys.path.insert(0, str(SCHEMA))
    from sweeps.config import schema_violations_from_proposed_config

    yield schema_violations_from_proposed_config
    sys.path.remove(str(SCHEMA))


NUMBERS = st.floats(0.01, 50.0).map(lambda value: round(value, 3))
WHOLE = st.integers(0, 50)
WITHOUT_Q: st.SearchStrategy[Any] = st.just({})
Q = st.one_of(WITHOUT_Q, st.sampled_from([{"q": 1}, {"q": 0.25}]))


def ranged(*names: str, low: st.SearchStrategy[Any] = NUMBERS, q: st.SearchStrategy[Any] = WITHOUT_Q) -> Any:
    spread = st.tuples(st.sampled_from(names), low, st.one_of(NUMBERS, st.integers(1, 50)), q)
    return spread.map(
        lambda drawn: {"distribution": drawn[0], "min": drawn[1], "max": drawn[1] + drawn[2] + 3, **drawn[3]}
    )


EXPONENT = st.floats(-3.0, 0.0).map(lambda value: round(value, 3))
PARAMETER = st.one_of(
    st.fixed_dictionaries({"value": st.none() | st.booleans() | WHOLE | NUMBERS | st.text(max_size=5)}),
    st.fixed_dictionaries({"values": st.lists(WHOLE | NUMBERS | st.text(max_size=5), min_size=1, max_size=4)}),
    st.just({"values": ["a", "b"], "probabilities": [0.25, 0.75]}),
    st.tuples(WHOLE, st.integers(1, 9)).map(lambda drawn: {"min": drawn[0], "max": drawn[0] + drawn[1]}),
    st.tuples(NUMBERS, NUMBERS).map(lambda drawn: {"min": drawn[0], "max": drawn[0] + drawn[1]}),
    st.tuples(WHOLE, NUMBERS).map(lambda drawn: {"min": drawn[0], "max": drawn[0] + drawn[1] + 0.5}),
    ranged("uniform", "log_uniform_values", "inv_log_uniform_values"),
    ranged("q_uniform", "q_log_uniform_values", q=Q),
    ranged("log_uniform", "inv_log_uniform", low=EXPONENT),
    ranged("q_log_uniform", low=st.just(1.5), q=Q),
    st.tuples(st.sampled_from(["normal", "log_normal"]), NUMBERS).map(
        lambda drawn: {"distribution": drawn[0], "mu": drawn[1], "sigma": 0.5}
    ),
    st.tuples(st.sampled_from(["q_normal", "q_log_normal"]), Q).map(
        lambda drawn: {"distribution": drawn[0], "mu": 2.0, **drawn[1]}
    ),
    st.just({"distribution": "beta", "a": 2}),
    st.tuples(Q).map(lambda drawn: {"distribution": "q_beta", "a": 2, "b": 3, **drawn[0]}),
)
PARAMETERS = st.recursive(
    st.dictionaries(st.sampled_from("abcde"), PARAMETER, min_size=1, max_size=4),
    lambda inner: st.dictionaries(
        st.sampled_from("fghi"),
        st.one_of(PARAMETER, inner.map(lambda one: {"parameters": one})),
        min_size=1,
        max_size=3,
    ),
    max_leaves=4,
)
FILES = st.fixed_dictionaries(
    {"method": st.sampled_from(["random", "grid", "bayes"]), "parameters": PARAMETERS},
    optional={
        "name": st.just("n"),
        "description": st.just("d"),
        "project": st.just("p"),
        "entity": st.just("e"),
        "program": st.just("train.py"),
        "command": st.just(["${env}", "python", 3, "${args}"]),
        "controller": st.just({"type": "cloud", "anything": 1}),
        "kind": st.just("sweep"),
        "apiVersion": st.just("v1"),
        "run_cap": st.integers(1, 9),
        "metric": st.fixed_dictionaries(
            {"name": st.just("val/mAP")},
            optional={"goal": st.sampled_from(["minimize", "maximize"]), "target": NUMBERS, "impute": st.just("best")},
        ),
        "early_terminate": st.sampled_from(
            [
                {"type": "hyperband", "min_iter": 3},
                {"type": "hyperband", "min_iter": 5, "eta": 2.5, "strict": False, "s": 2, "max_iter": 27},
                {"type": "hyperband", "max_iter": 27, "s": 2},
            ]
        ),
    },
)


@given(written=FILES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_what_wandb_takes_is_a_sweep_and_what_is_exported_of_it_wandb_takes(written: Any, violations: Any) -> None:
    # Of its older distributions it only says that there are newer ones.
    assert not [one for one in violations(written) if "min/max specify base-e exponents" not in one]
    sweep = Sweep.model_validate(written)
    exported = wandb_sweep(sweep)
    assert violations(exported) == []
    again = space_of(exported["parameters"], "exported")
    for one, other in zip(sweep.space.parameters, again.parameters, strict=True):
        assert one.name == other.name
        if isinstance(one.distribution, LogUniform):
            assert isinstance(other.distribution, LogUniform)
            assert other.distribution.bounds == pytest.approx(one.distribution.bounds)
        elif one.distribution.size > 1:
            assert one.distribution == other.distribution


def test_every_distribution_of_wandbs_schema_is_one_of_ours(violations: Any) -> None:
    schema = json.loads((SCHEMA / "sweeps" / "config" / "schema.json").read_text())
    allowed = {one["$ref"].rpartition("/")[2] for one in schema["definitions"]["parameter"]["anyOf"]}
    text = json.dumps([schema["definitions"][name] for name in sorted(allowed)])
    named = {name for name in DISTRIBUTIONS if f'"{name}"' in text}
    assert named == set(DISTRIBUTIONS)
    keys = set(Sweep.model_fields) | {"$schema"}
    assert set(schema["properties"]) <= keys


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "random", "parameters": {"x": {"min": 1}}},
        {"method": "random", "parameters": {"x": {"distribution": "normal", "min": 1}}},
        {"method": "random", "parameters": {"x": {"values": [1, 2], "probabilities": [0.1, 0.1]}}},
        {"method": "random", "parameters": {"x": {"min": "1", "max": 2}}},
        {"method": "random", "parameters": {}},
        {"method": "annealing", "parameters": {"x": {"value": 1}}},
        {"method": "random", "parameters": {"x": {"value": 1}}, "programm": "train.py"},
        {"method": "random", "parameters": {"x": {"value": 1}}, "run_cap": 0},
        {"method": "random", "parameters": {"x": {"value": 1}}, "metric": {"goal": "minimize"}},
        {"method": "random", "parameters": {"x": {"value": 1}}, "early_terminate": {"type": "hyperband"}},
        {"method": "random", "parameters": {"x": {"value": 1}}, "early_terminate": {"type": "median", "min_iter": 1}},
    ],
)
def test_what_wandb_refuses_is_no_sweep_either(wrong: Any, violations: Any, tmp_path: Path) -> None:
    assert violations(wrong)
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(wrong))
    with pytest.raises(ContractError):
        read_sweep(tmp_path / "sweep.yaml")


def test_the_sweep_of_the_repository_is_exported_with_what_wandb_has_of_it(violations: Any) -> None:
    exported = wandb_sweep(read_sweep(REPOSITORY / "sweeps" / "scenes.yaml"))
    assert violations(exported) == []
    assert exported["method"] == "bayes"
    assert exported["metric"] == {"name": "segmentation/mIoU", "goal": "maximize"}
    assert exported["early_terminate"] == {"type": "hyperband", "min_iter": 3, "eta": 3}
    assert exported["run_cap"] == 24
    assert exported["parameters"]["tasks.lanes.weight"] == {"distribution": "uniform", "min": 0.1, "max": 2.0}
    sets = ["--set", "training.eval_every=1", "--set", "training.epochs=9"]
    assert exported["command"][-6:] == [*sets, "--params", "${args_json}"]


def test_a_files_own_program_stays() -> None:
    found = wandb_sweep(Sweep.model_validate({"program": "train.py", "parameters": {"x": {"value": 1}}}))
    assert found["program"] == "train.py"
    assert "command" not in found


class WandbServer(ThreadingHTTPServer):
    """As much of W&B as making a sweep and one run of its agent need; ``asked`` has the queries."""

    def __init__(self, commands: list[list[dict[str, Any]]]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.commands, self.config = commands, ""
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        self.asked.append((query.split("(")[0].strip(), variables))
        if "upsertSweep" in query:
            self.config = variables["config"]
            sweep = {"name": "s1", "project": {"id": "1", "name": "p", "entity": {"id": "2", "name": "e"}}}
            return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}
        if "agentHeartbeat" in query:
            busy = json.loads(variables["runState"])
            commands = [] if busy or not self.commands else self.commands.pop(0)
            return {"agentHeartbeat": {"agent": {"id": "a"}, "commands": json.dumps(commands)}}
        if "createAgent" in query:
            return {"createAgent": {"agent": {"id": "a"}}}
        sweep = {"id": "1", "name": "s1", "config": self.config, "controller": None, "runs": {"edges": []}}
        return {"project": {"sweep": sweep}, "viewer": {"id": "1", "entity": "e", "teams": {"edges": []}}}


class _Handler(BaseHTTPRequestHandler):
    server: WandbServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = json.loads(body) if body.startswith(b"{") else {"query": ""}
        self._say(json.dumps({"data": self.server.answer(asked["query"], asked.get("variables") or {})}).encode())

    def do_GET(self) -> None:
        self._say(b"{}")

    def _say(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WandbServer]:
    params = {"optim.lr": 2e-3, "optim.ema_decay": None, "training.epochs": 2, "guards.determinism.enabled": False}
    args = {name: {"value": value} for name, value in params.items()}
    run = {"type": "run", "run_id": RUN_ID, "program": "", "args": args}
    with WandbServer([[run], [{"type": "exit"}]]) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        for name in ("WANDB_MODE", "WANDB_ENTITY", "WANDB_PROJECT", "WANDB_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("WANDB_BASE_URL", found.url)
        monkeypatch.setenv("HOME", str(tmp_path))
        yield found
        found.shutdown()


@pytest.mark.slow
def test_without_an_account_it_is_said_so(server: WandbServer) -> None:
    sweep = Sweep.model_validate({"recipe": "tiny", "parameters": {"optim.lr": {"value": 1}}})
    with pytest.raises(ContractError, match="wandb login"):
        create(sweep, "p", "e")
    assert not server.asked


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_sweep_is_made_and_its_agent_trains_what_it_is_told(
    server: WandbServer, delivery: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W&B's own client and agent against a server of ours; the run itself is offline."""
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    written = {
        "recipe": "tiny",
        "method": "random",
        "objective": "segmentation/mIoU",
        "parameters": {"optim.lr": {"min": 1e-3, "max": 1e-2}, "optim.ema_decay": {"value": None}},
    }
    sweep = Sweep.model_validate({**written, "early_stop": {"first_rung": 1}})
    start = Start(str(recipe), str(delivery), str(tmp_path / "runs"), sys.executable)
    exported = wandb_sweep(sweep, start)
    # The agent has an account, but what it starts must not ask for a server.
    command = ("WANDB_MODE=offline", *exported["command"][1:])
    path = create(sweep.model_copy(update={"command": ("${env}", *command), "program": exported["program"]}), "p", "e")
    assert path == "e/p/s1"
    assert yaml.safe_load(server.config)["parameters"]["optim.ema_decay"] == {"value": None}

    launcher = LocalLauncher()
    environment = {"WANDB_BASE_URL": server.url, "WANDB_API_KEY": "a" * 40, "PYTHONPATH": str(REPOSITORY)}
    (agent,) = start_agents(path, launcher, tmp_path / "agents", environment=environment | {"HOME": str(tmp_path)})
    deadline = time.monotonic() + 280
    while (status := launcher.poll(agent)).state == "running" and time.monotonic() < deadline:
        time.sleep(0.5)
    launcher.stop(agent)
    log = agent.spec.log.read_text()
    assert status.state == "succeeded", log

    run_dir = tmp_path / "runs" / RUN_ID
    trained = read_config(run_dir / "recipe.yaml", environment={})
    assert (trained.optim.lr, trained.optim.ema_decay, trained.training.epochs) == (2e-3, None, 2)
    assert json.loads((run_dir / "result.json").read_text())["run_id"] == RUN_ID
    epochs = read_epochs(run_dir)
    logged = history_of(next((agent.spec.run_dir / "wandb").glob(f"offline-run-*-{RUN_ID}/*.wandb")))
    assert [row["segmentation/mIoU"] for row in logged] == [one.metrics["segmentation/mIoU"] for one in epochs]
    assert [row["_step"] for row in logged] == [1, 2]


class Endless:
    """A launcher whose trainings go on until somebody stops them."""

    poll_seconds = 0.0

    def __init__(self) -> None:
        self.stopped: list[Handle] = []
        self.looks = 0

    def launch(self, spec: LaunchSpec) -> Handle:
        return Handle("1", spec, 0.0)

    def poll(self, handle: Handle) -> Status:
        if self.looks == 3:
            raise SystemExit
        metrics = {IOU: 0.5, "a/b": None}
        epoch = Epoch(epoch=self.looks, global_step=1, losses={"x": 2.0}, metrics=metrics, seconds=1)
        with (handle.spec.run_dir / EPOCHS_FILE).open("a") as file:
            file.write(f"{epoch.model_dump_json()}\n")
        self.looks += 1
        return Status("running")

    def stop(self, handle: Handle) -> None:
        self.stopped.append(handle)


def test_a_run_that_wandb_ends_ends_its_training_and_each_epoch_was_logged_once(recipe: Path, tmp_path: Path) -> None:
    trial = WandbTrial(recipe, tmp_path, tmp_path / "runs", {"optim.lr": 0.25}, ("training.eval_every=1",))
    launcher, logged = Endless(), []
    with pytest.raises(SystemExit):
        train(trial, RUN_ID, launcher, lambda figures, epoch: logged.append((epoch, figures)))  # type: ignore[arg-type]
    assert [epoch for epoch, _ in logged] == [1, 2, 3]
    assert logged[0][1] == {IOU: 0.5, "loss/x": 2.0}
    (handle,) = launcher.stopped
    assert read_config(handle.spec.run_dir / "recipe.yaml", environment={}).optim.lr == 0.25


def test_parameters_that_the_recipe_does_not_take_start_nothing(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"optim\.lr"):
        WandbTrial(recipe, tmp_path, tmp_path, {"optim.lr": -1}).spec(RUN_ID)


def history_of(path: Path) -> list[dict[str, Any]]:
    """What an offline run logged, by W&B's own reader."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    store, rows = DataStore(), []
    store.open_for_scan(str(path))
    while (data := store.scan_data()) is not None:
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = record.history.item
            rows.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items})
    return rows


def test_the_command_prints_the_file_and_writes_it(
    violations: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(REPOSITORY / "sweeps" / "scenes.yaml")
    assert main(["sweep", "export", file]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert violations(printed) == []
    assert main(["sweep", "export", file, "--out", str(tmp_path / "wandb.yaml")]) == 0
    assert yaml.safe_load((tmp_path / "wandb.yaml").read_text()) == printed
    assert capsys.readouterr().out == ""


def test_the_command_says_what_does_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "sweep.yaml").write_text("method: random\nparameters: {learning_rate: {min: 0.1, max: 0.2}}\n")
    assert main(["sweep", "export", str(tmp_path / "sweep.yaml")]) == 2
    assert "--recipe NAME" in capsys.readouterr().err
    assert main(["sweep", "export", str(tmp_path / "sweep.yaml"), "--recipe", "scenes_multitask"]) == 2
    assert "field 'parameters.learning_rate': found 'learning_rate', expected a field" in capsys.readouterr().err
