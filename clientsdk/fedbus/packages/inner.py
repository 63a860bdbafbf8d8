"""Runs inside a package's own Python: calls its `startup(client)` once, then its functions, task by task.

It speaks with the client over the socket whose number is in FEDBUS_CHANNEL, one JSON object a line. Models come
and go as files. Training and validation run in the main thread, other tasks in a thread for each kind.
"""

import importlib
import json
import os
import queue
import socket
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

CHANNEL = "FEDBUS_CHANNEL"
STARTUP = "startup"
MAIN = ("train", "validate")
TRACE_CHARS = 4096
NEVER = False
CUSTOM = "Custom_"
"""What Scaleout's names of own commands begin with."""
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2",
    "I8": "i1", "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip

Function: TypeAlias = Callable[..., Any]


class Aborted(Exception):
    """The task was withdrawn."""


class Task:
    """One call, while it runs."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self.number: int = asked["call"]
        self.what: str = asked["what"]
        self.given: str | None = asked.get("given")
        self.made: str | None = asked.get("made")
        self.settings: dict[str, Any] = asked.get("settings", {})
        self.facts: dict[str, Any] = asked.get("facts", {})
        self.aborted = threading.Event()


class Channel:
    """The socket to the client."""

    def __init__(self, number: int) -> None:
        self._socket = socket.socket(fileno=number)
        self._socket.set_inheritable(False)  # not for what the package starts
        self._lines = self._socket.makefile("rb")
        self._writing = threading.Lock()

    def say(self, message: Mapping[str, object]) -> None:
        """Send one message."""
        data = json.dumps(message, default=_plain).encode() + b"\n"
        with self._writing:
            self._socket.sendall(data)

    def heard(self) -> Iterator[dict[str, Any]]:
        """Give what the client sends, until it is gone."""
        for line in self._lines:
            yield json.loads(line)


class Settings(dict[str, Any]):
    """What `fedbus.Settings` is in a client: the session's settings, and the facts as attributes."""

    def __init__(self, task: Task, client: "Client") -> None:
        super().__init__(task.settings)
        self.__dict__.update(task.facts)
        if isinstance(task.facts.get("deadline"), str):
            self.deadline: datetime | None = datetime.fromisoformat(task.facts["deadline"])
        self.client = client
        self.cancelled = task.aborted.is_set

    def progress(self, fraction: float, text: str = "") -> None:
        """Tell how far the task is."""
        self.client.tell("progress", fraction=fraction, text=text)


class Client:
    """What `startup(client)` is given: registers functions, and logs as `fedbus.Client` does."""

    def __init__(self, channel: Channel, folder: str, facts: Mapping[str, Any]) -> None:
        self._channel = channel
        self._style: str = facts["style"]
        self.name: str = facts["name"]
        self.client_id: str = facts["client_id"]
        self.package_path = folder
        self.functions: dict[str, Function] = {}
        self.running = threading.local()

    def set_train_callback(self, callback: Function) -> None:
        """Train with this function."""
        self._set("train", callback)

    def set_validate_callback(self, callback: Function) -> None:
        """Validate with this function."""
        self._set("validate", callback)

    def set_inference_callback(self, callback: Function) -> None:
        """Answer inferences with this function."""
        self._set("inference", callback)

    def set_stage_model_callback(self, callback: Function) -> None:
        """Have this function called when a model was staged."""
        self._set("stage_model", callback)

    def set_custom_callback(self, callback_name: str, callback: Function) -> None:
        """Answer a command of your own with this function."""
        self._set(f"custom:{callback_name.removeprefix(CUSTOM)}", callback)

    def remove_custom_callback(self, callback_name: str) -> None:
        """Answer that command no more."""
        self.functions.pop(f"custom:{callback_name.removeprefix(CUSTOM)}", None)
        self._tell_functions()

    def log_metric(
        self,
        metrics: Mapping[str, Any],
        step: int | None = None,
        commit: bool = True,
        check_task_abort: bool | None = None,
        context: object = None,
        priority: str | None = None,
    ) -> bool:
        """Log numbers. `context` is Scaleout's; here the running task is known."""
        return self._log(
            "log_metric", check_task_abort, priority, metrics=metrics, step=step, commit=commit
        )

    def log_attributes(
        self,
        attributes: Mapping[str, Any],
        priority: str | None = None,
        check_task_abort: bool | None = None,
    ) -> bool:
        """Say what this client is like from now on."""
        return self._log("log_attributes", check_task_abort, priority, attributes=attributes)

    def log_telemetry(
        self,
        key: str | Mapping[str, Any] | None = None,
        payload: object = None,
        telemetry: Mapping[str, Any] | None = None,
        priority: str | None = None,
        check_task_abort: bool | None = None,
    ) -> bool:
        """Log any JSON under a key, or each of a mapping's values under its own (Scaleout's old form)."""
        pairs = key if isinstance(key, Mapping) else telemetry
        each = {key: payload} if pairs is None else pairs
        for name, value in each.items():
            self._log("log_telemetry", check_task_abort, priority, key=name, payload=value)
        return True

    def log_inference_result(
        self, key: str, payload: object, context: object = None, priority: str | None = None
    ) -> bool:
        """Log what a model answered here."""
        return self._log("log_inference_result", NEVER, priority, key=key, payload=payload)

    def log_event(self, text: str, level: str = "info", *, priority: str | None = None) -> bool:
        """Log a line for people."""
        return self._log("log_event", NEVER, priority, text=text, level=level)

    def check_task_abort(self) -> None:
        """Raise `Aborted` when the running task was withdrawn."""
        task: Task | None = getattr(self.running, "task", None)
        if task is not None and task.aborted.is_set():
            raise Aborted("the task was withdrawn")

    def tell(self, what: str, **arguments: object) -> None:
        """Send a message that belongs to the running task."""
        task: Task | None = getattr(self.running, "task", None)
        number = None if task is None else task.number
        self._channel.say({"log": what, "call": number, "arguments": arguments})

    def _log(
        self, what: str, check: bool | None, priority: str | None, **arguments: object
    ) -> bool:
        if priority is not None:
            arguments["priority"] = priority
        self.tell(what, **arguments)
        if check if check is not None else self._style == "scaleout":
            self.check_task_abort()
        return True

    def _set(self, name: str, callback: Function) -> None:
        if not callable(callback):
            raise TypeError(f"the function for {name} cannot be called: {callback!r}")
        self.functions[name] = callback
        self._tell_functions()

    def _tell_functions(self) -> None:
        self._channel.say({"functions": sorted(self.functions)})


class FedbusStyle:
    """Functions as `fedbus.Trainer` has them: a model is a dict of arrays."""

    def train(self, function: Function, task: Task, client: Client) -> dict[str, Any]:
        """Train."""
        assert task.given is not None
        assert task.made is not None
        model, examples, metrics = function(read_tensors(task.given), Settings(task, client))
        write_tensors(model, task.made)
        return {**metrics, "num_examples": examples}

    def validate(self, function: Function, task: Task, client: Client) -> dict[str, Any]:
        """Validate."""
        assert task.given is not None
        examples, metrics = function(read_tensors(task.given), Settings(task, client))
        return {**metrics, "num_examples": examples}

    def other(self, function: Function, task: Task, client: Client) -> object:
        """Do what a command asks for."""
        model = None if task.given is None else read_tensors(task.given)
        return function(model, Settings(task, client))


class ScaleoutStyle:
    """Functions as Scaleout's `EdgeClient` has them: a model is a `ScaleoutModel`."""

    def train(self, function: Function, task: Task, _client: Client) -> dict[str, Any]:
        """Train."""
        assert task.made is not None
        model, metadata = function(self._model(task), dict(task.settings))
        if model is None:
            raise ValueError(f"the train callback gave no model: {metadata}")
        model.save_to_file(task.made)
        return dict(metadata)

    def validate(self, function: Function, task: Task, _client: Client) -> dict[str, Any]:
        """Validate."""
        return dict(function(self._model(task)))

    def other(self, function: Function, task: Task, _client: Client) -> object:
        """Do what a command asks for."""
        if task.what == "inference":
            return function(self._model(task), dict(task.settings))
        if task.what == "stage_model":
            function(self._model(task))
            return None
        request = importlib.import_module("scaleoututil.grpc.scaleout_pb2").TaskRequest
        command = str(task.facts.get("command", ""))
        return function(request(data=json.dumps(task.settings), correlation_id=command))

    def _model(self, task: Task) -> Any:
        if task.given is None:
            return None
        kind = importlib.import_module("scaleoututil.utils.model").ScaleoutModel
        with open(task.given, "rb") as file:
            return kind.from_stream(file)  # a copy of its own: the package may keep it


STYLES = {"fedbus": FedbusStyle, "scaleout": ScaleoutStyle}


class Runner:
    """Runs tasks as they come."""

    def __init__(self, channel: Channel, client: Client, style: str) -> None:
        self._channel = channel
        self._client = client
        self._style = STYLES[style]()
        self._queues: dict[str, queue.SimpleQueue[Task | None]] = {"main": queue.SimpleQueue()}
        self._tasks: dict[int, Task] = {}

    def listen(self) -> None:
        """Hear the client until it is gone; then end at once, as our keeper does with what is left."""
        for message in self._channel.heard():
            if "abort" in message:
                task = self._tasks.get(message["abort"])
                if task is not None:
                    task.aborted.set()
                continue
            task = self._tasks[message["call"]] = Task(message)
            self._queue(task.what).put(task)
        os._exit(0)

    def work(self, name: str = "main") -> None:
        """Run the tasks of one kind, one after another."""
        while (task := self._queues[name].get()) is not None:
            self._client.running.task = task
            self._channel.say({"call": task.number, **self._answer(task)})
            self._client.running.task = None
            self._tasks.pop(task.number, None)

    def _queue(self, what: str) -> "queue.SimpleQueue[Task | None]":
        name = "main" if what in MAIN else what
        if name not in self._queues:
            self._queues[name] = queue.SimpleQueue()
            threading.Thread(target=self.work, args=(name,), name=name, daemon=True).start()
        return self._queues[name]

    def _answer(self, task: Task) -> dict[str, object]:
        function = self._client.functions.get(task.what)
        if function is None:
            return {"failed": f"the package has no function for {task.what}"}
        do = getattr(self._style, task.what if task.what in MAIN else "other")
        try:
            told = do(function, task, self._client)
            json.dumps(told, default=_plain)
        except Aborted:
            return {"aborted": True}
        except (Exception, SystemExit) as error:  # noqa: BLE001  # the package's own: told, not judged
            traceback.print_exc()
            trace = traceback.format_exc()[-TRACE_CHARS:]
            return {"failed": f"{type(error).__name__}: {error}", "trace": trace}
        return {"told": told}


def read_tensors(path: str) -> dict[str, Any]:
    """Read a tensor file that the client wrote (its own: it is not checked); bfloat16 as float32."""
    import numpy as np  # the package's own

    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    arrays = {}
    for name, entry in json.loads(data[8:start]).items():
        begin, end = entry["data_offsets"]
        kind = np.dtype(DTYPES[entry["dtype"]])
        flat = np.frombuffer(data, kind, (end - begin) // kind.itemsize, start + begin)
        if entry["dtype"] == "BF16":
            flat = (flat.astype(np.uint32) << np.uint32(16)).view(np.float32)
        arrays[name] = flat.reshape(entry["shape"]).copy()
    return arrays


def write_tensors(arrays: Mapping[str, Any], path: str) -> None:
    """Write arrays as a tensor file; the client checks it."""
    import numpy as np  # the package's own

    names = {
        f"{np.dtype(kind).kind}{np.dtype(kind).itemsize}": name for name, kind in DTYPES.items()
    }
    names["u2"] = "U16"
    entries: dict[str, object] = {}
    parts, place = [], 0
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        kind = names.get(f"{array.dtype.kind}{array.dtype.itemsize}")
        if kind is None:
            raise TypeError(f"tensor {name!r} has the element type {array.dtype}, not a number's")
        raw = array.astype(np.dtype(DTYPES[kind]), copy=False).tobytes()
        place, start = place + len(raw), place
        entries[name] = {"dtype": kind, "shape": array.shape, "data_offsets": [start, place]}
        parts.append(raw)
    header = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    with open(path, "wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for raw in parts:
            file.write(raw)


def load(folder: str, file: str, name: str) -> Function:
    """Import a file of the package and give a function of it."""
    sys.path.insert(0, folder)
    module = importlib.import_module(Path(file).with_suffix("").as_posix().replace("/", "."))
    function: object = getattr(module, name, None)
    if not callable(function):
        raise SystemExit(f"{file} has no function {name}")
    return function


def main(folder: str, file: str) -> None:
    """Start the package, say what it registered, then serve."""
    channel = Channel(int(os.environ.pop(CHANNEL)))
    lines = channel.heard()
    facts = next(lines)
    client = Client(channel, folder, facts)
    load(folder, file, STARTUP)(client)
    channel.say({"ready": sorted(client.functions)})
    runner = Runner(channel, client, facts["style"])
    threading.Thread(target=runner.listen, name="fedbus-listen", daemon=True).start()
    runner.work()


def _plain(value: object) -> object:
    """Turn numpy's numbers and arrays into JSON."""
    for way in ("tolist", "item"):
        if hasattr(value, way):
            return getattr(value, way)()
    raise TypeError(f"{type(value).__name__} cannot be sent as JSON")


if __name__ == "__main__":
    if sys.argv[3] == STARTUP:
        main(sys.argv[1], sys.argv[2])
    else:  # an entry point that takes nothing, as `build`
        load(*sys.argv[1:4])()
